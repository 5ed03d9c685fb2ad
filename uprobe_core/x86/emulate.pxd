"""What an instruction does to registers and memory, worked out without running it, from the plan byte and the bytes.

Pure: no system call, no allocation, no Python. Memory of the target is named, never touched: the caller does it.
An access that fails means that the instruction would fault: registers are unchanged then, and the processor has to
run the instruction itself.
"""

from libc.stdint cimport uint64_t

from uprobe_core.abi cimport (
    FIX_SYSCALL,
    PLAN_ONE_STOP,
    WAY_BOOST,
    WAY_BOOST_UNSTEPPED,
    WAY_JMP,
    WAY_SKIP,
    insn_t,
    regs_t,
)
from uprobe_core.x86.fixup cimport access_t, place_t


# Whether the slot does it all: a copy and a jump back.
cdef inline bint plan_is_boost(unsigned int kind) noexcept nogil:
    return kind in (PLAN_ONE_STOP | WAY_BOOST, PLAN_ONE_STOP | WAY_BOOST_UNSTEPPED)


# Whether the instruction can be finished by stepping its slot with all signals blocked. Not a system call, which may
# wait for one of them; nor, boosted, an instruction that stores the stepper's trap flag.
cdef inline bint plan_can_step(unsigned int kind) noexcept nogil:
    if kind & PLAN_ONE_STOP:
        return kind != (PLAN_ONE_STOP | WAY_BOOST_UNSTEPPED)
    return kind & FIX_SYSCALL == 0


# Whether a hit only has to set ip, to what emulate_ip says; no register is needed.
cdef inline bint plan_sets_ip(unsigned int kind) noexcept nogil:
    return plan_is_boost(kind) or kind in (PLAN_ONE_STOP | WAY_SKIP, PLAN_ONE_STOP | WAY_JMP)

# The new ip of such a hit.
cdef uint64_t emulate_ip(const place_t *place) noexcept nogil

# Any other one-stop way: regs are those of the hit with ip at the site. Returns FIXUP_DONE (regs are those after the
# instruction, and `access` may be a write to make), FIXUP_IP (only ip changed), FIXUP_READ (make the access, call
# again with unchanged regs) or FIXUP_FAULTS. access.size must be 0 at the first call.
cdef int emulate(const place_t *place, regs_t *regs, access_t *access) noexcept nogil

# The way (enum plan_way) by which `emulate` can run a near branch, push, pop, move or lea; -1 when it cannot.
cdef int emulate_way(const insn_t *insn) noexcept nogil
