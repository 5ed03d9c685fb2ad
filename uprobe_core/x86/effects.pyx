"""What a decoded instruction reads and writes. The contract stands in effects.pxd."""

from libc.stdint cimport uint8_t, uint32_t

from uprobe_core.abi cimport *
from uprobe_core.x86.opcode_tables cimport *


cdef inline uint32_t address_registers(const insn_t *insn) noexcept nogil:
    """Base and index, as a mask."""
    cdef uint32_t base = insn.modrm & 7, mod = insn.modrm >> 6, index, mask = 0
    if insn.address_size == 2:
        if base == 6 and mod == 0:
            return 0
        return decode_address_16[base]
    if insn.has_sib:
        index = (insn.sib >> 3 & 7) | (insn.rex & 2) << 2 | (insn.rex_high & 2) << 3
        if index != 4 and not opcode_forms[insn.form].rules & RULE_VSIB:
            mask = <uint32_t>1 << index
        base = insn.sib & 7
    if base == 5 and mod == 0:
        return mask
    return mask | <uint32_t>1 << (base | (insn.rex & 1) << 3 | (insn.rex_high & 1) << 4)


cdef inline void slot_effects(uint32_t slot, uint32_t number, uint32_t size, uint32_t extends,
                              effects_t *out) noexcept nogil:
    """One general register that the encoding names."""
    cdef uint32_t mask = <uint32_t>1 << number
    out.reads |= mask if slot & SLOT_READ or slot & SLOT_READ_32 and extends else 0
    out.writes |= mask if slot & SLOT_WRITE else 0
    out.kills |= mask if slot & SLOT_KILL or slot & SLOT_KILL_V and size >= 4 else 0


cdef inline uint32_t slot_number(uint32_t slot, uint32_t number, uint32_t bare) noexcept nogil:
    """The register that a number names: AH to BH are the second bytes of the first four."""
    return number & 3 if slot & SLOT_BYTE and bare and number >= 4 else number


cdef inline void idiom_effects(const insn_t *insn, uint32_t idiom, uint32_t same, effects_t *out) noexcept nogil:
    """What depends on the operands themselves. same: ModRM names one register twice."""
    cdef uint32_t size = insn.operand_size, count
    if idiom == IDIOM_SHIFT:
        count = <uint32_t>insn.imm & (63 if size == 8 else 31)
        if count == 0:
            out.flags_read = out.flags_written = out.flags_undefined = 0
        elif count == 1:
            out.flags_undefined &= ~EFLAGS_OF
    elif idiom == IDIOM_IGNORED:
        out.reads = 0
    elif same and idiom != IDIOM_NAME:  # xor, sub, sbb of a register with itself
        out.reads = 0
        out.kills = out.writes if size >= 4 else 0


cdef void insn_effects(const insn_t *insn, effects_t *out) noexcept nogil:
    cdef const opcode_form_t *form = &opcode_forms[insn.form]
    cdef const opcode_effects_t *effects = &opcode_effects[insn.form]
    cdef const opcode_implicit_t *implicit = &opcode_implicit[effects.implicit]
    cdef const opcode_flags_t *flags = &opcode_flags[effects.flags]
    cdef uint32_t slots = form.slots, size = insn.operand_size, rex = insn.rex
    cdef uint32_t bare = insn.encoding == ENC_LEGACY and not insn.prefixes & PFX_REX
    cdef uint32_t reg = (insn.modrm >> 3 & 7) | (rex & 4) << 1 | (insn.rex_high & 4) << 2
    cdef uint32_t low = insn.modrm if insn.attrs & INSN_HAS_MODRM else insn.opcode
    cdef uint32_t rm = (low & 7) | (rex & 1) << 3 | (insn.rex_high & 1) << 4
    cdef uint32_t extends = size == 4 and insn.bits == 64  # a 32-bit result clears the upper half
    cdef uint32_t is_memory = insn.attrs & INSN_HAS_MODRM and insn.modrm < 0xC0 and not form.rules & RULE_ANYMOD

    out.reads = implicit.reads
    out.writes = implicit.writes
    out.kills = implicit.kills | (implicit.kills_v if size >= 4 else 0)
    out.flags_read = flags.reads
    out.flags_written = flags.writes
    out.flags_undefined = flags.undefined

    slot_effects(slots >> SLOT_REG, slot_number(slots >> SLOT_REG, reg, bare), size, extends, out)
    if is_memory:
        out.reads |= address_registers(insn)
    else:
        slot_effects(slots >> SLOT_RM, slot_number(slots >> SLOT_RM, rm, bare), size, extends, out)
    slot_effects(slots >> SLOT_VVVV, insn.vvvv, size, extends, out)

    if insn.attrs & INSN_REPEATED:  # perhaps not once
        out.reads |= 1 << 1
        out.writes |= 1 << 1
        out.kills = 0
    if size == 2 and insn.attrs & INSN_STACK:  # pushf, popf and iret with 66: the low half
        out.flags_read &= 0xFFFF
        out.flags_written &= 0xFFFF
    if insn.evex & 4 and form.memory & APX_NF:
        out.flags_written = out.flags_undefined = 0
    if effects.idiom:
        idiom_effects(insn, effects.idiom, not is_memory and reg == rm, out)
    out.kills &= ~out.reads
