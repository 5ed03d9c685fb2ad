"""Takes a thread out of a slot: its registers become those of the same moment in the original code.

For a signal that arrives in a slot, a child that starts in one, and a detach. Pure: no system call, no allocation,
no Python. Works from the original bytes, never from the slot's.
"""

from libc.stdint cimport uint32_t, uint64_t

from uprobe_core.abi cimport regs_t
from uprobe_core.x86.fixup cimport access_t, place_t

cdef enum resolve_outcome:
    RESOLVE_BACK     # ip is at the site, nothing has run yet or a part that will be repeated: the hit that follows there
                     # is the same hit
    RESOLVE_DONE     # the instruction is finished; `access` may be a write to make
    RESOLVE_RESTART  # a system call ended and the kernel may go back to the site for it: then it is the same hit
    RESOLVE_FAILED   # not in the slot, or between its instructions: the target scrambled it; regs untouched

# regs: of a thread whose ip is in the slot at place.slot_ip. options: as in insn_decode, for this processor.
cdef int slot_resolve(const place_t *place, uint32_t options, regs_t *regs, access_t *access) noexcept nogil
