"""Code that does what is asked for at a hit, inside the target: counts it, or writes a record. Pure.

Where restartable sequences are registered (rseq(2)), all that a hit changes is committed by the one store that ends a
sequence: interrupted before it by a signal, a preemption or a migration, the kernel sends the thread to the abort address,
and the sequence begins anew. So every processor's counters and rings have one writer at a time without a lock, whatever
nests. The code changes no register and no flag that is live, no vector or x87 state, and nothing below the stack
pointer that may be in use; it does not depend on the alignment of the stack, nor on AC, DF or any other flag: every access
to memory is aligned. It calls nothing and makes no system call.

The kernel reads the descriptor that a thread announced last at each of its preemptions, and kills the process if it is not
sound: bytes of hitcode_tail may be overwritten or unmapped only once every thread's rseq_cs points elsewhere.
"""

from libc.stdint cimport uint32_t

from uprobe_core.abi cimport hit_section_t, hit_sections_t, hitcode_t, hitplace_t
from uprobe_core.x86.emit cimport emitter_t

cdef enum:
    HITCODE_TAIL_MAX = 32 + 48  # bytes of hitcode_tail: for its alignment, and for each section

# Writes the code for one action. It begins with the registers of the hit, and falls through with the same ones. Its
# restartable sequence is added to `sections`; positions there are offsets in `out`. 0; STATUS_REFUSED: this cannot be
# done without a stop (records without rseq, division); STATUS_NO_ROOM: `sections` is full. Whether the bytes had room:
# emit_fits. On failure `out` and `sections` are as they were.
cdef int hitcode_emit(emitter_t *out, const hitcode_t *what, const hitplace_t *at,
                      hit_sections_t *sections) noexcept nogil

# Writes the descriptors and abort stubs of all sections, behind all code: to `cold`, which may be `out` itself, or another
# emitter within ±2 GiB, so that what hardly ever runs takes no room from what does. A multiple of 32 bytes from cold.ip is
# a multiple of 32, so that descriptors are aligned.
cdef void hitcode_tail(emitter_t *out, emitter_t *cold, const hit_sections_t *sections) noexcept nogil

# The section that a thread at offset `at` is inside of, or NULL: its hit has not happened yet.
cdef const hit_section_t *section_at(const hit_sections_t *sections, uint32_t at) noexcept nogil
