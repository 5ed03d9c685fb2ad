"""The few instruction forms that hit code is made of, written through an emitter. Pure.

Registers are numbered as encoded, 0 to 15. `wide`: 64-bit operands, else 32-bit ones (which clear the upper half).
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from uprobe_core.x86.emit cimport emit_byte, emit_bytes, emit_u32, emit_u64, emitter_t

# Opcodes with a modrm byte, as register, register-or-memory.
cdef enum asm_form:
    ASM_ADD = 0x03
    ASM_OR = 0x0B
    ASM_AND = 0x23
    ASM_SUB = 0x2B
    ASM_XOR = 0x33
    ASM_CMP = 0x3B
    ASM_MOVSXD = 0x63
    ASM_TEST = 0x85
    ASM_STORE = 0x89
    ASM_LOAD = 0x8B
    ASM_LEA = 0x8D
    ASM_IMUL = 0x0FAF
    ASM_MOVSX8 = 0x0FBE
    ASM_MOVSX16 = 0x0FBF
    ASM_CMOVE = 0x0F44
    ASM_MOVZX8 = 0x0FB6

# Operations of opcode 81/83 (with an immediate) by their modrm extension; those above are opcode 8 * n + 3.
cdef enum asm_operation:
    ASM_ADD_IMM = 0
    ASM_OR_IMM = 1
    ASM_AND_IMM = 4
    ASM_SUB_IMM = 5
    ASM_XOR_IMM = 6
    ASM_CMP_IMM = 7

cdef enum asm_shift:
    ASM_SHL = 4
    ASM_SHR = 5
    ASM_SAR = 7

# Conditions, as in the low four bits of jcc and setcc.
cdef enum asm_condition:
    ASM_B = 2
    ASM_AE = 3
    ASM_E = 4
    ASM_NE = 5
    ASM_BE = 6
    ASM_A = 7
    ASM_S = 8
    ASM_L = 12
    ASM_GE = 13
    ASM_LE = 14
    ASM_G = 15


cdef inline bint fits_imm32(uint64_t value) noexcept nogil:
    """Whether a sign-extended 32-bit immediate gives `value`."""
    return <uint64_t><int64_t><int32_t>value == value


cdef inline void asm_rex(emitter_t *out, bint wide, unsigned int reg, unsigned int rm) noexcept nogil:
    cdef uint8_t rex = 0x40 | (8 if wide else 0) | (4 if reg & 8 else 0) | (1 if rm & 8 else 0)
    if rex != 0x40:
        emit_byte(out, rex)


cdef inline void asm_opcode(emitter_t *out, unsigned int opcode) noexcept nogil:
    if opcode > 0xFF:
        emit_byte(out, 0x0F)
    emit_byte(out, <uint8_t>opcode)


cdef inline void asm_registers(emitter_t *out, unsigned int opcode, unsigned int reg, unsigned int rm,
                               bint wide) noexcept nogil:
    """op reg, rm"""
    asm_rex(out, wide, reg, rm)
    asm_opcode(out, opcode)
    emit_byte(out, 0xC0 | (reg & 7) << 3 | (rm & 7))


cdef inline void asm_address(emitter_t *out, unsigned int reg, unsigned int base, int32_t disp) noexcept nogil:
    """The modrm byte and what follows it, for [base + disp]."""
    cdef bint short = -128 <= disp <= 127
    emit_byte(out, (0x40 if short else 0x80) | (reg & 7) << 3 | (base & 7))
    if base & 7 == 4:
        emit_byte(out, 0x24)
    if short:
        emit_byte(out, <uint8_t>disp)
    else:
        emit_u32(out, <uint32_t>disp)


cdef inline void asm_memory(emitter_t *out, unsigned int opcode, unsigned int reg, unsigned int base, int32_t disp,
                            bint wide) noexcept nogil:
    """op reg, [base + disp]"""
    asm_rex(out, wide, reg, base)
    asm_opcode(out, opcode)
    asm_address(out, reg, base, disp)


cdef inline void asm_thread(emitter_t *out, unsigned int opcode, unsigned int reg, int32_t offset,
                            bint wide) noexcept nogil:
    """op reg, fs:[offset]"""
    emit_byte(out, 0x64)
    asm_rex(out, wide, reg, 0)
    asm_opcode(out, opcode)
    emit_byte(out, 0x04 | (reg & 7) << 3)
    emit_byte(out, 0x25)
    emit_u32(out, <uint32_t>offset)


cdef inline void asm_relative(emitter_t *out, unsigned int opcode, unsigned int reg, uint64_t vaddr) noexcept nogil:
    """op reg, [rip → vaddr], 64-bit"""
    asm_rex(out, True, reg, 0)
    asm_opcode(out, opcode)
    emit_byte(out, 0x05 | (reg & 7) << 3)
    emit_u32(out, <uint32_t>(vaddr - (out.ip + out.length + 4)))


cdef inline void asm_immediate(emitter_t *out, unsigned int operation, unsigned int reg, int32_t value,
                               bint wide) noexcept nogil:
    """op reg, value"""
    asm_rex(out, wide, 0, reg)
    if -128 <= value <= 127:
        emit_byte(out, 0x83)
        emit_byte(out, 0xC0 | operation << 3 | (reg & 7))
        emit_byte(out, <uint8_t>value)
    else:
        emit_byte(out, 0x81)
        emit_byte(out, 0xC0 | operation << 3 | (reg & 7))
        emit_u32(out, <uint32_t>value)


cdef inline void asm_constant(emitter_t *out, unsigned int reg, uint64_t value) noexcept nogil:
    """mov reg, value in the shortest form that changes no flag"""
    if value == <uint32_t>value:
        asm_rex(out, False, 0, reg)
        emit_byte(out, 0xB8 | (reg & 7))
        emit_u32(out, <uint32_t>value)
    elif fits_imm32(value):
        asm_rex(out, True, 0, reg)
        emit_byte(out, 0xC7)
        emit_byte(out, 0xC0 | (reg & 7))
        emit_u32(out, <uint32_t>value)
    else:
        asm_rex(out, True, 0, reg)
        emit_byte(out, 0xB8 | (reg & 7))
        emit_u64(out, value)


cdef inline void asm_unary(emitter_t *out, unsigned int extension, unsigned int reg) noexcept nogil:
    """f7 /extension, 64-bit: 2 not, 3 neg"""
    asm_rex(out, True, 0, reg)
    emit_byte(out, 0xF7)
    emit_byte(out, 0xC0 | extension << 3 | (reg & 7))


cdef inline void asm_shift_by(emitter_t *out, unsigned int operation, unsigned int reg, uint8_t count) noexcept nogil:
    """shl, shr or sar reg, count; 64-bit"""
    asm_rex(out, True, 0, reg)
    emit_byte(out, 0xC1)
    emit_byte(out, 0xC0 | operation << 3 | (reg & 7))
    emit_byte(out, count)


cdef inline void asm_shift_cl(emitter_t *out, unsigned int operation, unsigned int reg) noexcept nogil:
    """shl, shr or sar reg, cl; 64-bit: the processor takes cl modulo 64"""
    asm_rex(out, True, 0, reg)
    emit_byte(out, 0xD3)
    emit_byte(out, 0xC0 | operation << 3 | (reg & 7))


cdef inline void asm_set(emitter_t *out, unsigned int condition, unsigned int reg) noexcept nogil:
    """setcc reg8; movzx reg, reg8"""
    emit_byte(out, 0x40 | (1 if reg & 8 else 0))  # a REX byte: sil, not dh
    emit_byte(out, 0x0F)
    emit_byte(out, 0x90 | condition)
    emit_byte(out, 0xC0 | (reg & 7))
    emit_byte(out, 0x40 | (5 if reg & 8 else 0))
    emit_byte(out, 0x0F)
    emit_byte(out, 0xB6)
    emit_byte(out, 0xC0 | (reg & 7) << 3 | (reg & 7))


cdef inline void asm_push(emitter_t *out, unsigned int reg) noexcept nogil:
    asm_rex(out, False, 0, reg)
    emit_byte(out, 0x50 | (reg & 7))


cdef inline void asm_pop(emitter_t *out, unsigned int reg) noexcept nogil:
    asm_rex(out, False, 0, reg)
    emit_byte(out, 0x58 | (reg & 7))


cdef inline size_t asm_jump_if(emitter_t *out, unsigned int condition) noexcept nogil:
    """jcc forward; give the result to asm_land."""
    emit_byte(out, 0x0F)
    emit_byte(out, 0x80 | condition)
    emit_u32(out, 0)
    return out.length


cdef inline size_t asm_jump_short(emitter_t *out, unsigned int condition) noexcept nogil:
    """jcc forward over less than 128 bytes; give the result to asm_land_short."""
    emit_byte(out, 0x70 | condition)
    emit_byte(out, 0)
    return out.length


cdef inline void asm_land_short(emitter_t *out, size_t jump) noexcept nogil:
    """The short jump leads here."""
    if jump <= out.room:
        out.bytes[jump - 1] = <uint8_t>(out.length - jump)


cdef inline size_t asm_jump(emitter_t *out) noexcept nogil:
    """jmp forward; give the result to asm_land."""
    emit_byte(out, 0xE9)
    emit_u32(out, 0)
    return out.length


cdef inline void asm_patch(emitter_t *out, size_t next, size_t target) noexcept nogil:
    """Make the disp32 that ends at offset `next` lead to offset `target`."""
    cdef uint32_t distance = <uint32_t>(target - next)
    if next <= out.room:
        memcpy(out.bytes + next - 4, &distance, 4)


cdef inline void asm_land(emitter_t *out, size_t jump) noexcept nogil:
    """The forward jump leads here."""
    asm_patch(out, jump, out.length)
