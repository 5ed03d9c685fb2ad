"""Takes a thread out of a slot: its registers become those of the same moment in the original code."""

from libc.stdint cimport uint32_t, uint64_t

from uprobe_core.abi cimport (
    FIX_SYSCALL,
    FORM_BRANCH,
    FORM_CALL,
    FORM_CALL_INDIRECT,
    FORM_COPY,
    FORM_STEP,
    FORM_SYSCALL,
    MODE_STEP,
    MODE_TRAP,
    PLAN_ONE_STOP,
    RIP_AUTO,
    SLOT_SIZE,
    insn_t,
    plan_t,
    regs_t,
)
from uprobe_core.x86.decode cimport insn_decode
from uprobe_core.x86.emit cimport jump_size, push_size
from uprobe_core.x86.emulate cimport plan_is_boost
from uprobe_core.x86.fixup cimport access_t, place_t, syscall_leave, syscall_restarts
from uprobe_core.x86.relocate cimport REACH_NEAR, plan_make, plan_place

cdef enum:
    PUSH_LOW_SIZE = 5   # push imm32, the first half of emit_push
    LOAD_SIZE = 10      # mov r64, imm64
    NOP_SIZE = 1


cdef int slot_replan(const place_t *place, uint32_t options, plan_t *plan) noexcept nogil:
    """The plan as it was made at the insertion. Where a choice was made, the site tells."""
    cdef insn_t insn
    cdef int strategy = place.operand if plan_is_boost(place.kind) else RIP_AUTO
    cdef int mode = MODE_TRAP if place.kind & PLAN_ONE_STOP else MODE_STEP
    cdef int status = insn_decode(place.original, place.length, place.ip, options, &insn)
    if status:
        return status
    status = plan_make(&insn, place.original, place.ip, mode, strategy, REACH_NEAR, plan)
    return status or plan_place(plan, place.ip, place.slot_ip)


cdef int resolve_call(const place_t *place, const plan_t *plan, uint64_t offset, regs_t *regs,
                      access_t *access) noexcept nogil:
    cdef uint64_t next_ip = place.ip + place.length
    if offset not in (PUSH_LOW_SIZE, push_size(next_ip)):
        return RESOLVE_FAILED
    if plan.form == FORM_CALL_INDIRECT:
        # The operand may be in memory. Take the push back: what it overwrote is overwritten again by the same call.
        regs.rsp += 8
        regs.rip = place.ip
        return RESOLVE_BACK
    if offset != push_size(next_ip):
        access.vaddr = regs.rsp + 4
        access.value = next_ip >> 32
        access.size = 4
        access.write = 1
    regs.rip = plan.target_vaddr
    return RESOLVE_DONE


cdef int resolve_syscall(const place_t *place, const plan_t *plan, uint64_t offset, regs_t *regs) noexcept nogil:
    cdef uint64_t late = LOAD_SIZE if plan.form == FORM_SYSCALL else NOP_SIZE
    if offset not in (plan.copy_length, plan.copy_length + late):
        return RESOLVE_FAILED
    syscall_leave(place, regs.eflags, regs)  # nobody steps this thread: TF, if it is set, is its own
    return RESOLVE_RESTART if syscall_restarts(regs) else RESOLVE_DONE


cdef int slot_resolve(const place_t *place, uint32_t options, regs_t *regs, access_t *access) noexcept nogil:
    cdef plan_t plan
    cdef uint64_t offset = regs.rip - place.slot_ip
    cdef uint64_t next_ip = place.ip + place.length
    access.size = 0
    if offset == 0:
        regs.rip = place.ip
        return RESOLVE_BACK
    if slot_replan(place, options, &plan) or offset >= SLOT_SIZE:
        return RESOLVE_FAILED
    if plan.form in (FORM_CALL, FORM_CALL_INDIRECT):
        return resolve_call(place, &plan, offset, regs, access)
    if plan.form == FORM_SYSCALL or (plan.form == FORM_STEP and place.kind & FIX_SYSCALL):
        return resolve_syscall(place, &plan, offset, regs)
    if plan.form in (FORM_COPY, FORM_BRANCH) and offset == plan.copy_length:
        regs.rip = next_ip
        return RESOLVE_RESTART if syscall_restarts(regs) else RESOLVE_DONE  # int 0x80
    if plan.form == FORM_BRANCH and offset == plan.copy_length + jump_size(place.slot_ip + plan.copy_length, next_ip):
        regs.rip = plan.target_vaddr
        return RESOLVE_DONE
    return RESOLVE_FAILED
