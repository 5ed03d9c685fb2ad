"""From an instruction to a plan: how it runs at another address.

Pure: no system call, no allocation, no Python, any thread.
"""

from libc.stdint cimport uint8_t, uint64_t

from uprobe_core.abi cimport insn_t, plan_t

# The slots that can be had for a site: none at all, anywhere, or also within ±2 GiB of the site.
cdef enum plan_reach:
    REACH_NONE = -1
    REACH_ANY = 0
    REACH_NEAR = 1

# Analyses `insn`, whose bytes are `code` and whose address is `ip`, for `mode` (enum probe_mode: MODE_STEP or
# MODE_TRAP; MODE_AUTO takes MODE_TRAP where it can) and `strategy` (enum rip_strategy; it matters to RIP-relative
# operands only). Fills everything of `plan` but the slot. Returns STATUS_OK or STATUS_REFUSED (plan.refusal says why).
# near: enum plan_reach.
cdef int plan_make(const insn_t *insn, const uint8_t *code, uint64_t ip, int mode, int strategy, int near,
                   plan_t *plan) noexcept nogil

# Whether by this plan a return address is pushed, or popped, that is not where the processor's own shadow stack has it:
# a program that has one faults at the return (SDM vol. 1, 17.2).
cdef bint plan_makes_up_return(const insn_t *insn, const plan_t *plan) noexcept nogil

# Writes the slot's bytes for a slot at `slot_ip`, a multiple of SLOT_SIZE. Returns STATUS_OK, or STATUS_NO_ROOM when
# the slot is out of reach of what it must reach. A plan that needs no slot may be given one all the same: its slot then
# does the same without the tracer.
cdef int plan_place(plan_t *plan, uint64_t ip, uint64_t slot_ip) noexcept nogil

# The Python face of a plan.
cdef class Plan:
    cdef plan_t plan
    cdef uint64_t site_ip
    cdef uint64_t slot_vaddr
