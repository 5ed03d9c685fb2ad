"""What hit code saves before it works and restores after it: registers and flags that are live, in the fewest pushes.

Pure. A frame is planned first, then opened and closed in an emitter; in between, the registers in `scratch` may be
changed and every register's value at the hit can be had.
"""

from libc.stdint cimport int8_t, uint8_t, uint32_t

from uprobe_core.abi cimport hitplace_t
from uprobe_core.x86.emit cimport emitter_t

cdef enum:
    FRAME_SCRATCH_MAX = 8
    FRAME_FLAGS = 0xFE  # in `pushed`: the flags, as lahf and seto give them

ctypedef struct hitframe_t:
    uint8_t scratch[FRAME_SCRATCH_MAX]  # registers that may be changed
    uint32_t scratch_count
    uint8_t pushed[20]                  # registers in the order of their pushes
    uint32_t depth
    int8_t saved[16]                    # which push has the register's value; -1: the register itself has it
    bint flags_live
    bint red_zone                       # stepped over

# Plans a frame with `count` scratch registers (at most FRAME_SCRATCH_MAX). forced: a mask of registers that are among
# them, first and in order of their numbers. shift: rcx may be changed too, beside them. wanted: registers whose value is
# asked for later.
cdef void frame_plan(hitframe_t *frame, const hitplace_t *at, uint32_t forced, uint32_t wanted, unsigned int count,
                     bint shift) noexcept nogil

cdef void frame_open(const hitframe_t *frame, emitter_t *out) noexcept nogil
cdef void frame_close(const hitframe_t *frame, emitter_t *out) noexcept nogil

# reg = what register `number` was at the hit; no flag changes.
cdef void frame_load(const hitframe_t *frame, emitter_t *out, unsigned int reg, unsigned int number) noexcept nogil

# Bytes from rsp now to rsp at the hit.
cdef inline int frame_size(const hitframe_t *frame) noexcept nogil:
    return <int>(8 * frame.depth) + (128 if frame.red_zone else 0)

# Whether register `number` still has its value from the hit.
cdef inline bint frame_has(const hitframe_t *frame, unsigned int number) noexcept nogil:
    return number != 4 and frame.saved[number] < 0
