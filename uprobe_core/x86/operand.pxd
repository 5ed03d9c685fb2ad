"""The three answers to a RIP-relative operand, and operands that move with the stack pointer.

Pure: no system call, no allocation, no Python, any thread.
"""

from libc.stdint cimport uint8_t, uint64_t

from uprobe_core.abi cimport insn_t, plan_t

# Fills plan.copy, .copy_length, .strategy, .scratch, .disp_off, .place, .reach_vaddr and .target_vaddr with a copy of
# `insn` (its bytes are `code`, its address `ip`) that finds its operand from any slot that plan.place allows.
# stepped: someone restores registers after the copy, which scratch and segment need.
# near: as in plan_make. Returns an enum refusal.
cdef int operand_answer(const insn_t *insn, const uint8_t *code, uint64_t ip, int strategy, int near, bint stepped,
                        plan_t *plan) noexcept nogil

# Whether the instruction is a lea of a RIP-relative address: a constant.
cdef bint operand_is_constant(const insn_t *insn) noexcept nogil

# plan.copy becomes a move of that constant to the register of the lea.
cdef void operand_load_constant(const insn_t *insn, uint64_t ip, plan_t *plan) noexcept nogil

# plan.copy becomes `jmp` through the operand of the indirect near call `insn`, to run after the return address was
# pushed. Returns false when no jmp can name the operand then.
cdef bint operand_call_to_jmp(const insn_t *insn, const uint8_t *code, plan_t *plan) noexcept nogil
