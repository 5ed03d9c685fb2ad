"""Around a single step in a slot: registers before, registers after, by the plan byte alone."""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from uprobe_core.abi cimport (
    EFLAGS_TF,
    FIX_AGAIN,
    FIX_IP,
    FIX_RETURN,
    FIX_SCRATCH,
    FIX_SEGMENT,
    FIX_SYSCALL,
    FIX_TF,
    OPERAND_NONE,
    SLOT_SIZE,
    regs_t,
)
from uprobe_core.x86.branch cimport branch_is_conditional, branch_target
from uprobe_core.x86.registers cimport regs_get, regs_set

cdef enum:
    OPCODE_POPF = 0x9D
    OPCODE_SYSCALL = 0x05 # the second byte; int 0x80 ends in 80
    # The kernel's own error numbers, never seen by a program (Linux include/linux/errno.h).
    ERESTARTSYS = 512
    ERESTARTNOINTR = 513
    ERESTARTNOHAND = 514
    ERESTART_RESTARTBLOCK = 516


cdef inline uint64_t next_ip(const place_t *place) noexcept nogil:
    return place.ip + place.length


cdef inline uint64_t copy_end_ip(const place_t *place) noexcept nogil:
    """After the copy, which is as long as the original but for a segment prefix."""
    return place.slot_ip + place.length + (1 if place.kind & FIX_SEGMENT else 0)


cdef bint syscall_restarts(const regs_t *regs) noexcept nogil:
    cdef int64_t error = -<int64_t>regs.rax
    if <int64_t>regs.orig_rax < 0:
        return False
    return error in (ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK)


cdef void fixup_begin(const place_t *place, regs_t *regs, saved_t *saved) noexcept nogil:
    saved.eflags = regs.eflags
    saved.gs_base = regs.gs_base
    saved.scratch = 0
    if place.kind & FIX_SCRATCH:
        saved.scratch = regs_get(regs, place.operand)
        regs_set(regs, place.operand, next_ip(place))
    if place.kind & FIX_SEGMENT:
        regs.gs_base = next_ip(place) - copy_end_ip(place)
    regs.rip = place.slot_ip


cdef void registers_restore(const place_t *place, const saved_t *saved, regs_t *regs) noexcept nogil:
    if place.kind & FIX_SCRATCH:
        regs_set(regs, place.operand, saved.scratch)
    if place.kind & FIX_SEGMENT:
        regs.gs_base = saved.gs_base


cdef bint ip_finish(const place_t *place, regs_t *regs) noexcept nogil:
    """ip after a copy that ends inside the slot. False: it did not."""
    cdef uint64_t passed = regs.rip - copy_end_ip(place)
    if passed > 1:
        return False
    if place.kind & FIX_SCRATCH or place.operand == OPERAND_NONE:
        regs.rip = next_ip(place)  # one past the copy: the trap came after the nop
        return True
    if passed == 0 and not branch_is_conditional(place):
        return False
    regs.rip = branch_target(place) if passed else next_ip(place)
    return True


cdef void syscall_leave(const place_t *place, uint64_t eflags, regs_t *regs) noexcept nogil:
    regs.rip = next_ip(place)
    if place.original[place.length - 1] == OPCODE_SYSCALL:
        # The processor left the slot's next ip and the stepper's TF there (SDM vol. 2, SYSCALL).
        regs.rcx = regs.rip
        regs.r11 = (regs.r11 & ~<uint64_t>EFLAGS_TF) | (eflags & EFLAGS_TF)


cdef int fixup_finish(const place_t *place, const saved_t *saved, regs_t *regs, access_t *access) noexcept nogil:
    access.size = 0
    if place.kind & FIX_AGAIN and regs.rip == place.slot_ip:
        return FIXUP_AGAIN
    if place.kind & FIX_SYSCALL:
        if regs.rip - copy_end_ip(place) <= 1:
            if syscall_restarts(regs):
                return FIXUP_AGAIN
            syscall_leave(place, saved.eflags, regs)
        return FIXUP_DONE  # elsewhere: a sigreturn, which set every register
    registers_restore(place, saved, regs)
    if place.kind & FIX_IP:
        if not ip_finish(place, regs):
            return FIXUP_FAILED
    elif regs.rip - place.slot_ip < SLOT_SIZE:
        return FIXUP_FAILED
    if place.kind & FIX_RETURN:
        access.vaddr = regs.rsp
        access.value = next_ip(place)
        access.size = 8
        access.write = 1
    elif place.kind & FIX_TF:
        access.vaddr = regs.rsp + 1  # the second byte of the flags image, where TF is
        access.value = saved.eflags >> 8 & 0xFF
        access.size = 1
        access.write = 1
    return FIXUP_DONE


cdef void fixup_abort(const place_t *place, const saved_t *saved, regs_t *regs) noexcept nogil:
    registers_restore(place, saved, regs)
    if place.kind & FIX_SYSCALL and regs.rip != place.slot_ip:
        syscall_leave(place, saved.eflags, regs)
        return
    regs.rip = place.ip
    # The kernel hides the stepper's TF, but not in front of an instruction that loads the flags itself: iret, whose plan
    # is none of these, and popf.
    if place.kind & (FIX_IP | FIX_SCRATCH | FIX_SEGMENT) and place.original[place.length - 1] != OPCODE_POPF:
        return
    regs.eflags = (regs.eflags & ~<uint64_t>EFLAGS_TF) | (saved.eflags & EFLAGS_TF)
