"""The three answers to a RIP-relative operand, and operands that move with the stack pointer."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from uprobe_core.abi cimport (
    ENC_EVEX,
    ENC_LEGACY,
    ENC_REX2,
    ENC_VEX,
    ENC_XOP,
    INSN_ADDRESS_ONLY,
    INSN_MAX,
    INSN_RIP_RELATIVE,
    INSN_SEGMENT_BASE,
    MAP_ONE,
    PFX_67,
    PFX_REX,
    PLACE_ANY,
    PLACE_BELOW,
    PLACE_NEAR,
    REFUSAL_NO_ROOM,
    REFUSAL_NONE,
    REFUSAL_STRATEGY,
    REFUSAL_TOO_LONG,
    RIP_AUTO,
    RIP_DISPLACEMENT,
    RIP_NONE,
    RIP_SCRATCH,
    RIP_SEGMENT,
    SEG_FS,
    SEG_GS,
    STEP_SWALLOW,
    insn_t,
    plan_t,
)
from uprobe_core.x86.emit cimport emit_begin, emit_byte, emit_bytes, emit_u32, emit_u64, emitter_t
from uprobe_core.x86.registers cimport REG_RBP, REG_RDI, REG_RSI, REG_RSP

cdef enum:
    OPCODE_LEA = 0x8D
    OPCODE_GROUP5 = 0xFF
    GROUP5_CALL = 2
    GROUP5_JMP = 4
    PREFIX_DS = 0x3E   # notrack in front of an indirect branch
    PREFIX_FS = 0x64
    PREFIX_GS = 0x65
    PREFIX_67 = 0x67


cdef inline unsigned int modrm_reg(const insn_t *insn) noexcept nogil:
    return (insn.modrm >> 3 & 7) | (8 if insn.rex & 4 else 0)


cdef bint operand_is_constant(const insn_t *insn) noexcept nogil:
    return (insn.attrs & INSN_RIP_RELATIVE) != 0 and insn.encoding in (ENC_LEGACY, ENC_REX2) \
        and insn.map == MAP_ONE and insn.opcode == OPCODE_LEA and not insn.rex_high


cdef void operand_load_constant(const insn_t *insn, uint64_t ip, plan_t *plan) noexcept nogil:
    cdef emitter_t out
    cdef unsigned int number = modrm_reg(insn)
    cdef uint64_t value = ip + insn.length + <uint64_t><int64_t>insn.disp
    if insn.prefixes & PFX_67:
        value = <uint32_t>value
    emit_begin(&out, plan.copy, sizeof(plan.copy), 0)
    if insn.operand_size == 2:
        emit_byte(&out, 0x66)
    if insn.operand_size == 8 or number & 8:
        emit_byte(&out, 0x40 | (8 if insn.operand_size == 8 else 0) | number >> 3)
    emit_byte(&out, 0xB8 | (number & 7))
    emit_bytes(&out, &value, insn.operand_size)
    plan.copy_length = <uint8_t>out.length
    plan.strategy = RIP_NONE
    plan.place = PLACE_ANY


cdef void extension_clear(const insn_t *insn, uint8_t *copy) noexcept nogil:
    """Clear the B bits, which a RIP-relative operand ignores and a base register does not."""
    cdef uint8_t *prefix = copy + insn.prefix_len
    if insn.encoding == ENC_REX2:
        copy[insn.opcode_off - 1] &= <uint8_t>~0x11  # B4, B3
    elif insn.encoding == ENC_EVEX:
        prefix[1] = (prefix[1] | 0x20) & <uint8_t>~0x08  # inverted B3; B4
    elif insn.encoding == ENC_XOP or (insn.encoding == ENC_VEX and prefix[0] == 0xC4):
        prefix[1] |= 0x20  # inverted B
    elif insn.prefixes & PFX_REX:
        copy[insn.prefix_len - 1] &= <uint8_t>~0x01


cdef unsigned int scratch_choose(const insn_t *insn) noexcept nogil:
    """A register that the instruction neither reads nor writes.

    No instruction with an explicit memory operand uses rsi, rdi or rbp implicitly (SDM vol. 2, every form), and
    beside the operand it names at most two registers: ModRM.reg and vvvv. So one of the three is free, without
    knowing which of them the opcode uses, and none of them needs a REX prefix, which would change AH to SPL.
    rbp comes last: with it as base a non-canonical address raises #SS instead of #GP.
    """
    cdef unsigned int reg = modrm_reg(insn)
    cdef unsigned int other = insn.vvvv & 15
    if reg != REG_RSI and other != REG_RSI:
        return REG_RSI
    if reg != REG_RDI and other != REG_RDI:
        return REG_RDI
    return REG_RBP


cdef int answer_scratch(const insn_t *insn, plan_t *plan) noexcept nogil:
    plan.scratch = <uint8_t>scratch_choose(insn)
    plan.copy[insn.modrm_off] = 0x80 | (insn.modrm & 0x38) | plan.scratch  # [scratch+disp32]
    extension_clear(insn, plan.copy)
    plan.place = PLACE_ANY
    return REFUSAL_NONE


cdef int answer_segment(const insn_t *insn, const uint8_t *code, plan_t *plan) noexcept nogil:
    # The base is added after a 32-bit address was truncated (SDM vol. 1, 3.3.7), so [eip+disp32] cannot be moved by it.
    # The kernel, which emulates sgdt and its kind, refuses two segment prefixes, even where one has no effect.
    if insn.attrs & (INSN_ADDRESS_ONLY | INSN_SEGMENT_BASE) or insn.segment in (SEG_FS, SEG_GS) \
            or insn.prefixes & PFX_67 or insn.step == STEP_SWALLOW:
        return REFUSAL_STRATEGY
    if insn.length == INSN_MAX:
        return REFUSAL_TOO_LONG
    plan.copy[0] = PREFIX_GS
    memcpy(plan.copy + 1, code, insn.length)
    plan.copy_length = insn.length + 1
    plan.place = PLACE_BELOW
    return REFUSAL_NONE


cdef int answer_displacement(const insn_t *insn, int near, plan_t *plan) noexcept nogil:
    plan.disp_off = insn.disp_off
    if insn.prefixes & PFX_67:  # [eip+disp32] wraps at 4 GiB: every address is within reach
        plan.place = PLACE_ANY
        return REFUSAL_NONE
    plan.place = PLACE_NEAR
    plan.reach_vaddr = plan.target_vaddr
    return REFUSAL_NONE if near > 0 else REFUSAL_NO_ROOM


cdef int operand_answer(const insn_t *insn, const uint8_t *code, uint64_t ip, int strategy, int near, bint stepped,
                        plan_t *plan) noexcept nogil:
    memcpy(plan.copy, code, insn.length)
    plan.copy_length = insn.length
    plan.place = PLACE_ANY
    plan.strategy = RIP_NONE
    if not insn.attrs & INSN_RIP_RELATIVE:
        return REFUSAL_NONE
    plan.target_vaddr = ip + insn.length + <uint64_t><int64_t>insn.disp
    if strategy in (RIP_AUTO, RIP_NONE):
        strategy = RIP_SCRATCH if stepped and near <= 0 and not insn.prefixes & PFX_67 else RIP_DISPLACEMENT
    plan.strategy = <uint8_t>strategy
    if strategy == RIP_DISPLACEMENT:
        return answer_displacement(insn, near, plan)
    if not stepped:
        return REFUSAL_STRATEGY
    return answer_scratch(insn, plan) if strategy == RIP_SCRATCH else answer_segment(insn, code, plan)


cdef bint operand_call_to_jmp(const insn_t *insn, const uint8_t *code, plan_t *plan) noexcept nogil:
    cdef emitter_t out
    cdef uint8_t mod = insn.modrm >> 6
    cdef uint8_t rm = insn.modrm & 7
    cdef bint on_stack = mod != 3 and rm == 4 and (insn.sib & 7) == REG_RSP and not insn.rex & 1
    cdef int64_t disp = insn.disp
    cdef uint8_t disp_size = insn.disp_size
    cdef size_t i
    if mod == 3 and (rm | (insn.rex & 1) << 3) == REG_RSP:
        return False
    if on_stack:
        disp += 8  # rsp is 8 lower by now
        mod = 1 if -0x80 <= disp <= 0x7F else 2
        disp_size = 1 if mod == 1 else 4
        if disp != <int32_t>disp:
            return False
    emit_begin(&out, plan.copy, sizeof(plan.copy), 0)
    for i in range(insn.prefix_len):
        if code[i] == PREFIX_DS:
            emit_byte(&out, PREFIX_DS)
            break
    if insn.segment == SEG_FS:
        emit_byte(&out, PREFIX_FS)
    elif insn.segment == SEG_GS:
        emit_byte(&out, PREFIX_GS)
    if insn.prefixes & PFX_67:
        emit_byte(&out, PREFIX_67)
    if insn.rex & 3:
        emit_byte(&out, 0x40 | (insn.rex & 3))
    emit_byte(&out, OPCODE_GROUP5)
    emit_byte(&out, mod << 6 | GROUP5_JMP << 3 | rm)
    if insn.has_sib:
        emit_byte(&out, insn.sib)
    if insn.attrs & INSN_RIP_RELATIVE:
        plan.disp_off = <uint8_t>out.length
    emit_bytes(&out, &disp, disp_size)
    plan.copy_length = <uint8_t>out.length
    return True
