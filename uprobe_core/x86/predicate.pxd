"""Whether a compiled predicate holds, for registers that we have: what native code does inside the target. Pure."""

from libc.stdint cimport uint32_t, uint64_t

from uprobe_core.abi cimport hitcode_t, regs_t

# A number from here on names a register by its place in regs_t.
cdef enum:
    REGISTER_OTHER = 16

# How many words above the stack pointer the predicate and the fields want.
cdef uint32_t hitcode_stack_words(const hitcode_t *what) noexcept nogil

# stack: as many words, from rsp on. A malformed program does not hold.
cdef bint predicate_holds(const hitcode_t *what, const regs_t *regs, const uint64_t *stack, uint32_t tid) noexcept nogil
