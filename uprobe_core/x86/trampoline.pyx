"""Trampolines: see trampoline.pxd."""

from collections import namedtuple

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from uprobe_core.abi cimport (
    FLOW_CALL,
    FLOW_CALL_INDIRECT,
    FLOW_INT,
    FLOW_IRET,
    FLOW_JCC,
    FLOW_JMP,
    FLOW_JMP_FAR,
    FLOW_RET_FAR,
    FLOW_SYSCALL,
    FLOW_SYSRET,
    FORM_BRANCH,
    FORM_CALL,
    FORM_CALL_INDIRECT,
    FORM_JUMP,
    FORM_LAST,
    MODE_TRAP,
    REFUSAL_FAR_TRANSFER,
    REFUSAL_INSIDE,
    REFUSAL_MODE,
    REFUSAL_NONE,
    REFUSAL_TOO_LONG,
    REFUSAL_TRUNCATED,
    REFUSAL_UNDECODABLE,
    RIP_AUTO,
    STEP_TF_IN,
    STEP_TF_OUT,
    hit_sections_t,
    hitcode_t,
    hitplace_t,
    insn_t,
    plan_t,
)
from uprobe_core.status cimport STATUS_NO_ROOM, STATUS_OK, STATUS_REFUSED, STATUS_TRUNCATED
from uprobe_core.x86.decode cimport DECODE_64, insn_decode
from uprobe_core.x86.emit cimport (
    emit_begin,
    emit_byte,
    emit_bytes,
    emit_fits,
    emit_jump,
    emit_push,
    emit_u32,
    emitter_t,
    reach_near,
)
from uprobe_core.x86.hitcode cimport hitcode_emit, hitcode_tail
from uprobe_core.x86.hitplan cimport HitPlan
from uprobe_core.x86.relocate cimport REACH_NEAR, copy_place, plan_make

cdef enum:
    JCC_NEAR_SIZE = 6
    OVER_JUMP = 2        # a short jmp, over which a taken branch goes
    REG_RSP = 4


cdef int insn_refuse(const insn_t *insn, bint last) noexcept nogil:
    """Why an instruction that the planner can copy cannot be displaced into a trampoline."""
    if insn.flow in (FLOW_SYSCALL, FLOW_INT, FLOW_SYSRET):
        return REFUSAL_MODE  # the kernel restarts it by moving ip back, and its result shows where it ran
    if insn.flow in (FLOW_JMP_FAR, FLOW_RET_FAR, FLOW_IRET):
        return REFUSAL_FAR_TRANSFER
    if insn.step in (STEP_TF_IN, STEP_TF_OUT):
        return REFUSAL_MODE  # a thread is stepped through when it must get out
    if insn.flow in (FLOW_CALL, FLOW_CALL_INDIRECT) and not last:
        return REFUSAL_INSIDE  # it would return into the window
    if insn.flow == FLOW_CALL_INDIRECT and insn.modrm < 0xC0 and insn.has_sib and insn.sib & 7 == REG_RSP \
            and not insn.rex & 1 and insn.disp < 0:
        return REFUSAL_MODE  # the push would overwrite the operand before it is read
    return REFUSAL_NONE


cdef int branch_emit(emitter_t *out, const insn_t *insn, plan_t *plan) noexcept nogil:
    """A conditional branch: in its near form where there is one and the target is within reach."""
    cdef uint64_t end_ip = out.ip + out.length + JCC_NEAR_SIZE
    if insn.flow == FLOW_JCC and reach_near(end_ip, plan.target_vaddr):
        emit_byte(out, 0x0F)
        emit_byte(out, 0x80 | (insn.opcode & 15))
        emit_u32(out, <uint32_t>(plan.target_vaddr - end_ip))
        return STATUS_OK
    plan.copy[plan.copy_length - 1] = OVER_JUMP
    emit_bytes(out, plan.copy, plan.copy_length)
    emit_byte(out, 0xEB)  # not taken: over the jump to the target
    end_ip = out.ip + out.length + 1
    emit_byte(out, 5 if reach_near(end_ip + 5, plan.target_vaddr) else 6)
    emit_jump(out, plan.target_vaddr)
    return STATUS_OK


cdef int copy_emit(emitter_t *out, const insn_t *insn, uint64_t next_ip, plan_t *plan) noexcept nogil:
    """The displaced instruction. Falls through to what is emitted next, where the original does."""
    cdef int status
    if plan.form == FORM_JUMP:
        if insn.flow == FLOW_JMP:
            emit_jump(out, plan.target_vaddr)
        return STATUS_OK
    if plan.form == FORM_BRANCH:
        return branch_emit(out, insn, plan)
    if plan.form in (FORM_CALL, FORM_CALL_INDIRECT):
        emit_push(out, next_ip)
    if plan.form == FORM_CALL:
        emit_jump(out, plan.target_vaddr)
        return STATUS_OK
    status = copy_place(plan, out.ip + out.length)
    emit_bytes(out, plan.copy, plan.copy_length)
    return status


cdef int trampoline_refuse(trampoline_t *out, int refusal) noexcept nogil:
    out.refusal = <uint8_t>refusal
    return STATUS_REFUSED


cdef int arrival_emit(emitter_t *out, const arrival_t *arrival, const hitplace_t *common, hit_sections_t *sections,
                      trampoline_t *made) noexcept nogil:
    cdef hitplace_t place = common[0]
    cdef int i
    place.dead = arrival.freedom.dead
    place.flags_dead = arrival.freedom.flags_dead
    place.red_zone = arrival.freedom.red_zone
    for i in range(arrival.count):
        if hitcode_emit(out, arrival.what[i], &place, sections):
            return trampoline_refuse(made, REFUSAL_MODE)
    return STATUS_OK


cdef int trampoline_make(const uint8_t *code, size_t size, uint64_t vaddr, uint32_t options, const arrival_t *arrivals,
                         size_t count, const hitplace_t *common, uint64_t ip, uint8_t *bytes, size_t room,
                         uint64_t cold_ip, uint8_t *cold, trampoline_t *out) noexcept nogil:
    cdef emitter_t emitter, tail
    cdef hit_sections_t sections
    cdef insn_t insn
    cdef plan_t plan
    cdef displaced_t *displaced
    cdef size_t offset = 0, arrived = 0
    cdef int status, refusal
    cdef bint goes_on = True
    memset(out, 0, sizeof(trampoline_t))
    out.vaddr = ip
    out.window_vaddr = vaddr
    emit_begin(&emitter, bytes, room, ip)
    sections.count = 0
    sections.signature = common.signature if count else 0
    while offset < size and goes_on:
        if out.count == WINDOW_INSNS or size > WINDOW_BYTES:
            return trampoline_refuse(out, REFUSAL_TOO_LONG)
        status = insn_decode(code + offset, size - offset, vaddr + offset, options, &insn)
        if status:
            return trampoline_refuse(out, REFUSAL_TRUNCATED if status == STATUS_TRUNCATED else REFUSAL_UNDECODABLE)
        if plan_make(&insn, code + offset, vaddr + offset, MODE_TRAP, RIP_AUTO, REACH_NEAR, &plan):
            return trampoline_refuse(out, plan.refusal)
        refusal = insn_refuse(&insn, offset + insn.length == size)
        if refusal:
            return trampoline_refuse(out, refusal)
        displaced = &out.insns[out.count]
        displaced.offset = <uint8_t>offset
        displaced.length = insn.length
        displaced.hit = <uint16_t>emitter.length
        if arrived < count and arrivals[arrived].offset == offset:
            status = arrival_emit(&emitter, &arrivals[arrived], common, &sections, out)
            if status:
                return status
            arrived += 1
        displaced.copy = <uint16_t>emitter.length
        status = copy_emit(&emitter, &insn, vaddr + offset + insn.length, &plan)
        if status:
            return status
        out.count += 1
        offset += insn.length
        # What follows a jump in the window is padding.
        goes_on = not (plan.form in (FORM_LAST, FORM_CALL, FORM_CALL_INDIRECT) or insn.flow == FLOW_JMP)
    if arrived != count:
        return trampoline_refuse(out, REFUSAL_INSIDE)
    out.end = <uint16_t>emitter.length
    if goes_on:
        emit_jump(&emitter, vaddr + size)
    emit_begin(&tail, cold, COLD_BYTES, cold_ip)
    if sections.count:
        hitcode_tail(&emitter, &tail, &sections)
    out.size = <uint16_t>(emitter.length if emitter.literals == 0 else room)
    out.cold_vaddr = cold_ip
    out.cold_size = <uint16_t>tail.length
    return STATUS_OK if emit_fits(&emitter) and emit_fits(&tail) else STATUS_NO_ROOM


cdef uint64_t trampoline_ip(const trampoline_t *trampoline, uint64_t offset) noexcept nogil:
    cdef size_t i
    for i in range(trampoline.count):
        if trampoline.insns[i].offset == offset:
            return trampoline.vaddr + trampoline.insns[i].hit
    return 0


cdef int trampoline_insn(const trampoline_t *trampoline, uint64_t ip) noexcept nogil:
    cdef uint64_t offset = ip - trampoline.vaddr
    cdef int i
    if offset >= trampoline.end:
        return -1
    for i in range(trampoline.count - 1, -1, -1):
        if trampoline.insns[i].hit <= offset:
            return i
    return -1


cdef extern from "decode_options.h" nogil:
    unsigned int decode_host_vendor()


Trampoline = namedtuple("Trampoline", "ip code insns end cold")
Trampoline.__doc__ = """A trampoline's address and bytes, and where each instruction of its window went.

insns: for each instruction (offset in the window, length, offset of its hit code or copy, offset of its copy).
end: offset of the jump back. cold: the bytes of what hardly ever runs, for `cold_ip`.
"""


def trampoline(window: bytes, vaddr: int, ip: int, cold_ip: int = 0, *, hits: dict[int, HitPlan] = {}, gate_vaddr: int = 0,
               rseq_offset: int | None = None, signature: int = 0, dead: int = 0, flags_dead: bool = False,
               red_zone: bool = True) -> Trampoline:
    """The trampoline at `ip` of the window at `vaddr`; the tails of its hit code are to lie at `cold_ip`.

    hits: for offsets of instructions in the window, what is done there. gate_vaddr, rseq_offset, signature: of the target;
    dead, flags_dead, red_zone: what holds at all of them. Raises ValueError with the number of the refusal, or where it
    would be out of reach.
    """
    cdef hitplace_t common
    cdef arrival_t arrivals[WINDOW_INSNS]
    cdef trampoline_t made
    cdef HitPlan plan
    cdef uint8_t bytes_out[TRAMPOLINE_BYTES]
    cdef uint8_t cold[COLD_BYTES]
    cdef size_t count = 0
    cdef int status
    memset(&common, 0, sizeof(common))
    common.gate_vaddr = gate_vaddr
    common.has_rseq = rseq_offset is not None
    common.rseq_offset = rseq_offset or 0
    common.signature = signature
    for offset, plan in sorted(hits.items()):
        arrivals[count].offset = offset
        arrivals[count].count = 1
        arrivals[count].what[0] = &plan.code
        arrivals[count].freedom.dead = dead
        arrivals[count].freedom.flags_dead = flags_dead
        arrivals[count].freedom.red_zone = red_zone
        count += 1
    status = trampoline_make(window, len(window), vaddr, DECODE_64 | decode_host_vendor(), arrivals, count, &common, ip,
                             bytes_out, TRAMPOLINE_BYTES, cold_ip, cold, &made)
    if status == STATUS_REFUSED:
        raise ValueError(made.refusal)
    if status:
        raise ValueError(f"trampoline {ip:#x} is out of reach of the window at {vaddr:#x}")
    insns = [(made.insns[i].offset, made.insns[i].length, made.insns[i].hit, made.insns[i].copy)
             for i in range(made.count)]
    return Trampoline(ip, bytes_out[:made.size], insns, made.end, cold[:made.cold_size])
