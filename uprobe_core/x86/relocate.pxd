"""From an instruction to a plan: how it runs at another address.

Pure: no system call, no allocation, no Python, any thread.
"""

from libc.stdint cimport uint8_t, uint64_t

from uprobe_core.abi cimport insn_t, plan_t

# Analyses `insn`, whose bytes are `code` and whose address is `ip`, for `mode` (enum probe_mode: MODE_STEP or
# MODE_TRAP; MODE_AUTO takes MODE_TRAP where it can) and `strategy` (enum rip_strategy). Fills everything of
# `plan` but the slot. Returns STATUS_OK or STATUS_REFUSED (plan.refusal says why).
# near: non-zero when a slot within ±2 GiB of the site can be had, so that displacement may be planned.
cdef int plan_make(const insn_t *insn, const uint8_t *code, uint64_t ip, int mode, int strategy, int near,
                   plan_t *plan) noexcept nogil

# Writes the slot's bytes for a slot at `slot_ip`. Returns STATUS_OK, or STATUS_NO_ROOM when the slot is out of
# reach of what it must reach.
cdef int plan_place(plan_t *plan, uint64_t ip, uint64_t slot_ip) noexcept nogil
