"""Code that counts one arrival, without a stop: run in the target, in front of a displaced instruction.

Pure. The counter is a cell of 8 bytes in a board, memory that the target shares with us: one stride for each processor.
Where the target's threads have registered struct rseq (Linux include/uapi/linux/rseq.h), the count is a restartable
sequence: the address of the thread's own processor's cell is worked out, and one `inc` commits. A thread that is
preempted, moved or signalled in between starts again, so no count is lost and no bus lock is needed. Elsewhere a locked
increment counts in the stride of processor 0.

The gate's literal is minus the board's address: subtracting it gives the cell's address and a borrow. In a fork's child
the gate page is wiped: no borrow, and nothing is counted.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

from uprobe_core.x86.emit cimport emitter_t

# How the target counts: the same for all sites of a board.
ctypedef struct board_view_t:
    uint64_t gate_vaddr    # of the literal
    int32_t rseq_off       # of struct rseq from the thread pointer; 0: none is registered
    uint32_t signature     # in front of an abort address
    uint8_t shift          # a processor's stride is 1 << shift bytes

# What the place allows.
ctypedef struct place_view_t:
    uint32_t dead          # registers that nobody reads before they are written, one bit each
    bint flags_dead
    bint red_zone          # memory below the stack pointer may be in use

# What the tail has to know of one piece of code.
ctypedef struct section_t:
    size_t begin           # offsets in the emitter: where to start again
    size_t lea             # of the displacement that leads to the descriptor
    size_t start           # the first instruction of the sequence
    size_t commit          # behind the last

cdef enum:
    COUNT_SIZE_MAX = 96    # bytes of code
    COUNT_TAIL_MAX = 56

# Appends the code that increments the cell at `cell_off` of the stride. `section` goes to count_tail, once, behind all
# code of the same emitter.
cdef void count_emit(emitter_t *out, const board_view_t *board, const place_view_t *place, uint32_t cell_off,
                     section_t *section) noexcept nogil

# Appends the sequence's abort handler and its descriptor. Nothing where there is no sequence.
cdef void count_tail(emitter_t *out, const board_view_t *board, const section_t *section) noexcept nogil
