"""What is done at stops for those who record or count on a board: the same as hit code does inside the target.

A tap ties a site to a plan. The tracer writes to the last stride of a board, which no processor has, so that sites in every
mode fill one recording. Taps change only while the tracer does not run.
"""

from libc.stdint cimport uint8_t, uint32_t
from posix.types cimport pid_t

from uprobe_core.abi cimport hitcode_t, regs_t

ctypedef struct tap_plan_t:
    hitcode_t code
    uint8_t *board        # the board in our memory
    uint8_t *stride       # the tracer's
    uint32_t stack_words  # that have to be read

ctypedef struct tap_t:
    uint32_t plan
    uint32_t next         # 1 + index of the next tap of the same site, or of the next free one; 0: none

ctypedef struct taps_t:
    uint32_t *first       # by number of the site: 1 + index of its first tap
    uint32_t first_size
    tap_t *taps
    uint32_t size
    uint32_t free         # 1 + index
    tap_plan_t **plans
    uint32_t plan_count

cdef void taps_drop(taps_t *taps) noexcept nogil

# A plan for a board of `strides` strides at `board`; its number, or -ENOMEM.
cdef long taps_plan(taps_t *taps, const hitcode_t *code, uint8_t *board, uint32_t strides) noexcept nogil

# Ties a site to a plan, or unties it. Untying: whether another plan is left. 0, 1, or -ENOMEM.
cdef int taps_tie(taps_t *taps, uint32_t site, uint32_t plan) noexcept nogil
cdef int taps_untie(taps_t *taps, uint32_t site, uint32_t plan) noexcept nogil

# A thread stands at a site.
cdef void taps_serve(const taps_t *taps, uint32_t site, pid_t tid, const regs_t *regs) noexcept nogil
