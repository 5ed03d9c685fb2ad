"""What a decoded instruction reads and writes: general registers and flags, explicit and implicit, as masks.

Pure, like decode: no system call, no allocation, no Python, any thread.
"""

from uprobe_core.abi cimport effects_t, insn_t

# The masks of an instruction that insn_decode filled; complete, whatever `out` held.
cdef void insn_effects(const insn_t *insn, effects_t *out) noexcept nogil
