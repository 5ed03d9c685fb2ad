/* What follows the opcode: ModRM, SIB, displacement and immediate, and all that they decide.
 *
 * C and not Cython for one reason: the callers pass constants (the address size, the mode), and each must get a copy of
 * its own in which they are folded away. That is worth a sixth of the decoder's time, and only C can say always_inline.
 */
#ifndef UPROBES_DECODE_OPERANDS_H
#define UPROBES_DECODE_OPERANDS_H

#include <stdint.h>
#include <string.h>

#include "abi.h"
#include "decode_facts.h"
#include "opcode_tables.h"

/* The value of an enum value_kind that begins at `bytes`. Eight bytes are read, whatever the kind. */
static inline int64_t load_value(const uint8_t *bytes, uint32_t kind)
{
    uint64_t raw, sign = decode_value_sign[kind];

    memcpy(&raw, bytes, 8);
    return (int64_t)(((raw & decode_value_mask[kind]) ^ sign) - sign);
}

/* Where a value begins, as an offset; 0 for VALUE_NONE, whose mask alone has no bits in its lowest byte. */
static inline uint8_t value_offset(const uint8_t *code, const uint8_t *at, uint32_t kind)
{
    return (uint8_t)(at - code) & (uint8_t)decode_value_mask[kind];
}

/* Decodes the instruction whose leaf is `entry` from `cursor` (ModRM, or what follows the opcode) on.
 *
 * code: the first byte. modrm: the byte at cursor, or with the register form's mod where the processor ignores that
 * field. low: the opcode, whose low bits may be a register. rex: W R X B. bare: 1 without REX or the like. relative:
 * MODRM_RELATIVE in 64-bit mode, else 0. out.target is not yet cut to fewer than 64 bits.
 */
static inline __attribute__((always_inline)) void
decode_operands(const uint8_t *code, const uint8_t *cursor, uint32_t entry, uint32_t modrm, uint32_t low, uint32_t rex,
                uint32_t bare, uint32_t context, uint32_t address_size, uint32_t relative, uint64_t ip, insn_t *out)
{
    const opcode_form_t *form = &opcode_forms[LEAF_FORM(entry)];
    uint32_t imm_kind = LEAF_IMM(entry), attrs = out->attrs | form->attrs, named, length;

    if (entry & ENTRY_MODRM) {
        uint32_t fields = address_size == 2 ? decode_modrm_16(modrm) : decode_modrm[modrm];
        uint32_t has_sib = fields / MODRM_SIB & 1, sib = cursor[1] & -has_sib;
        int64_t disp;

        out->modrm = cursor[0];
        out->modrm_off = (uint8_t)(cursor - code);
        out->has_sib = (uint8_t)has_sib;
        out->sib = (uint8_t)sib;
        cursor += 1 + has_sib;
        named = decode_base[sib & 7];
        if (named & MODRM_SIB && modrm < 0x40) /* no base but a disp32 */
            fields |= DISPLACEMENT(4, VALUE_S32);
        disp = load_value(cursor, MODRM_VALUE(fields));
        out->disp = (int32_t)disp;
        out->disp_off = value_offset(code, cursor, MODRM_VALUE(fields));
        out->disp_size = (uint8_t)MODRM_DISP(fields);
        cursor += MODRM_DISP(fields);
        attrs |= INSN_HAS_MODRM | decode_memory_attrs[(fields & form->memory) / MODRM_MEMORY];
        named |= fields & form->slots;
        if (fields & relative) {
            attrs |= INSN_RIP_RELATIVE;
            out->target = ip + (uint64_t)disp;
        }
    } else { /* the low bits of the opcode may be a register, as those of ModRM.rm */
        named = decode_modrm[0xc0 | (low & 7)] & form->slots;
    }

    /* Is rsp named, or AH to BH? Number 4 with its REX bit clear; the byte registers 4 to 7, without a REX. */
    named &= ~(rex * (MODRM_RM_4 | INSN_STACK_POINTER));
    attrs |= (named | named >> 8 | named >> 10) & INSN_STACK_POINTER;
    if (named & (MODRM_RM_HIGH | MODRM_REG_HIGH)) {
        uint32_t rm = named & MODRM_RM_HIGH ? ((entry & ENTRY_MODRM ? modrm : low) & 7) | (rex & 1) << 3 : 0;
        uint32_t reg = named & MODRM_REG_HIGH ? (modrm >> 3 & 7) | (rex & 4) << 1 : 0;

        attrs |= bare ? INSN_HIGH_BYTE : rm == 4 || reg == 4 ? INSN_STACK_POINTER : 0;
    }

    length = (uint32_t)(cursor - code);
    if (imm_kind != IMM_NONE) {
        uint32_t immediate = decode_immediate[imm_kind][context];
        int64_t imm = load_value(cursor, IMM_VALUE(immediate));

        out->imm = imm;
        out->imm_off = (uint8_t)length;
        out->imm_size = (uint8_t)IMM_SIZE(immediate);
        length += IMM_SIZE(immediate);
        if (IMM_IS_RELATIVE(imm_kind))
            out->target = ip + length + (uint64_t)imm;
    }
    if (attrs & INSN_RIP_RELATIVE)
        out->target += length;
    out->attrs = attrs;
    out->length = (uint8_t)length;
    out->operand_size = decode_operand_size[form->size][context];
    out->address_size = (uint8_t)address_size;
    out->name = (uint16_t)LEAF_NAME(entry);
    out->form = (uint16_t)LEAF_FORM(entry);
    memcpy(&out->flow, &form->flow, 2); /* and step */
}

#endif
