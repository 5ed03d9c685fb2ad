"""Native code of a predicate. Pure."""

from libc.stdint cimport uint32_t

from uprobe_core.abi cimport hitcode_t, hitplace_t
from uprobe_core.x86.emit cimport emitter_t
from uprobe_core.x86.hitframe cimport hitframe_t

cdef enum:
    EXITS_MAX = 160

# Forward jumps out of hit code, all to the same place.
ctypedef struct exits_t:
    uint32_t count
    size_t jumps[EXITS_MAX]

# General registers whose value the predicate asks for.
cdef uint32_t predicate_registers(const hitcode_t *what) noexcept nogil

# Whether it shifts by what is not a constant, and so needs rcx.
cdef bint predicate_shifts(const hitcode_t *what) noexcept nogil

# Writes code that leaves by one of `exits` where the predicate does not hold. STATUS_NO_ROOM: it needs more scratch
# registers than the frame has. STATUS_REFUSED: what it asks for cannot be had without a stop.
cdef int predicate_emit(emitter_t *out, const hitcode_t *what, const hitplace_t *at, const hitframe_t *frame,
                        exits_t *exits) noexcept nogil

cdef inline void exits_add(exits_t *exits, size_t jump) noexcept nogil:
    if exits.count < EXITS_MAX:
        exits.jumps[exits.count] = jump
        exits.count += 1
