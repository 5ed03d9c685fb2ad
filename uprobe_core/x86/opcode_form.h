/* What the generated opcode tables are made of: the shapes that gen_tables.py fills and decode.pyx reads.
 *
 * A lookup starts at the root of an opcode map, indexed by the opcode byte; the sparse maps have a root for every 16
 * opcodes. An entry is a node or a leaf. A node is followed with some bits of the selector; a leaf names the row of
 * opcodes.txt and its form.
 */
#ifndef UPROBES_OPCODE_FORM_H
#define UPROBES_OPCODE_FORM_H

#include <stdint.h>

#include "abi.h"

/* ---- the selector: the bits that choose among the rows of one opcode ------------------------------ */

#define SELECT_RM 0    /* 3 bits */
#define SELECT_REG 3   /* 3 bits */
#define SELECT_MOD 6   /* 1: register form */
#define SELECT_PP 7    /* 2 bits, as VEX.pp */
#define SELECT_L 9     /* 2 bits */
#define SELECT_REXB 11 /* B X R W, as in REX */
#define SELECT_REXR 13
#define SELECT_W 14
#define SELECT_INTEL 15
#define SELECT_32 16   /* 32-bit mode */
#define SELECT_66 17   /* beside F2 or F3 */
#define SELECT_ND 18   /* APX's EVEX.ND, at the place of b */
#define SELECT_NF 19   /* APX's EVEX.NF, at the place of the highest bit of aaa */
#define SELECT_REX2 20
#define SELECT_APX 21

/* Bits 0 to 8 of a selector. */
#define SELECT_MODRM(modrm) (((modrm) & 63) | ((modrm) >= 0xc0) << SELECT_MOD)

/* The part of it that a leaf may restrict without a node of its own: mod, pp, L and W. */
#define ALLOW_KEY(selector) (((selector) >> SELECT_MOD & 31) | ((selector) >> (SELECT_W - 5) & 32))

/* ---- entries -------------------------------------------------------------------------------------- */

#define ENTRY_NODE 0x80000000u
#define ENTRY_MODRM 0x40000000u   /* needs the ModRM byte */
#define ENTRY_CHECKED 0x20000000u /* a leaf: opcode_allow, RULE_ANYMOD or RULE_VENDOR_W restrict it */
#define ENTRY_NONE ENTRY_CHECKED  /* no such instruction: form 0 allows nothing */
#define ENTRY_HAS_MODRM(entry) ((entry) >> 30 & 1)

#define NODE(offset, shift, mask) (ENTRY_NODE | (uint32_t)(mask) << 24 | (uint32_t)(shift) << 16 | (offset))
#define NODE_SHIFT(entry) ((entry) >> 16 & 31)
#define NODE_MASK(entry) ((entry) >> 24 & 7)
#define NODE_OFFSET(entry) ((entry) & 0xffff)

#define LEAF(row, form, imm) ((uint32_t)(row) << 16 | (uint32_t)(imm) << 12 | (form))
#define LEAF_ROW(entry) ((entry) >> 16 & 0xfff)
#define LEAF_IMM(entry) ((entry) >> 12 & 15)
#define LEAF_FORM(entry) ((entry) & 0xfff)

/* ---- forms ---------------------------------------------------------------------------------------- */

/* Operand sizes, in bytes, from 66, W and the mode. */
enum size_class {
    SIZE_B, SIZE_W, SIZE_D, SIZE_Q, SIZE_X, SIZE_YMM, SIZE_ZMM, SIZE_T,
    SIZE_V,    /* 16/32/64 */
    SIZE_Z,    /* 16/32 */
    SIZE_Y,    /* 32/64 by W */
    SIZE_D64,  /* as V, 64 by default in 64-bit mode */
    SIZE_F64,  /* always 64 in 64-bit mode */
    SIZE_NEAR, /* D64 on AMD; Intel ignores 66 on near branches in 64-bit mode (SDM vol. 2, "CALL", "Jcc") */
    SIZE_L,    /* the vector length */
    SIZE_CLASSES
};

enum imm_kind {
    IMM_NONE, IMM_UB, IMM_SB, IMM_UW, IMM_Z, IMM_V, IMM_D, IMM_ENTER, IMM_FAR, IMM_OFFSET, IMM_TWO,
    IMM_REL8, IMM_RELZ, /* from here on relative to the next instruction */
    IMM_NEAR, /* of a near branch: Intel ignores 66 in 64-bit mode */
    IMM_KINDS
};

enum form_rule {
    RULE_LOCK = 1 << 0,         /* LOCK is legal with a memory destination */
    RULE_LOCK_AMD = 1 << 1,     /* AMD takes LOCK too */
    RULE_REP = 1 << 2,          /* F2 and F3 repeat it */
    RULE_ANYMOD = 1 << 3,       /* ModRM.mod is ignored */
    RULE_MANDATORY = 1 << 4,    /* 66, F2 or F3 is part of the opcode */
    RULE_VVVV = 1 << 5,         /* vvvv names an operand; else it must be 1111 */
    RULE_VSIB = 1 << 6,         /* the index register is a vector: a SIB byte is required */
    RULE_UNIQUE = 1 << 7,       /* destination, index and mask (or the three tiles) must differ */
    RULE_UNIQUE_DEST = 1 << 8,  /* the destination must differ from the sources */
    RULE_SIB = 1 << 9,          /* a SIB byte is required */
    RULE_MASK = 1 << 10,        /* EVEX.aaa may name a mask */
    RULE_MASK_REQUIRED = 1 << 11,
    RULE_ZEROING = 1 << 12,     /* EVEX.z may be set */
    RULE_TILE = 1 << 13,        /* the register operands are tiles: there are eight */
    RULE_VENDOR_W = 1 << 14,    /* vendors disagree under REX.W */
    RULE_FETCHES_TWO = 1 << 15  /* AMD fetches two bytes more before it raises #UD */
};

/* A register named by the encoding and what becomes of it. Three slots: ModRM.reg, ModRM.rm or the opcode's low bits,
 * vvvv. */
enum slot_bit {
    SLOT_GPR = 1, SLOT_BYTE = 2, SLOT_READ = 4, SLOT_WRITE = 8,
    SLOT_KILL_V = 16, /* the old value does not matter if the operand size is at least 32 bits */
    SLOT_KILL = 32,   /* it never matters */
    SLOT_READ_32 = 64, /* read if the operand size is 32 bits */
    SLOT_MASK = 128    /* no general register but a mask register: there are eight */
};
#define SLOT_REG 0
#define SLOT_RM 8
#define SLOT_VVVV 16

/* Above the slots: whether ModRM's registers are general ones, at the places of MODRM_RM_4 and the like. */
#define SLOT_NAMES_RM (1u << 24)
#define SLOT_NAMES_REG (1u << 26)
#define SLOT_NAMES_RM_BYTE (1u << 28)
#define SLOT_NAMES_REG_BYTE (1u << 30)

/* What the memory form of ModRM does; the bits are those of MODRM_MEMORY, and no other bit of MODRM's fields. */
enum form_memory { MEMORY_READ = 0x20, MEMORY_WRITE = 0x40, MEMORY_LOCKED = 0x80 };

/* In the same byte: how APX reads the last byte of the EVEX prefix (APX architecture specification, 3.1.2.3). */
enum form_apx {
    APX_NONE,
    APX_LEGACY = 1, /* promoted from a legacy map: ND, V4, NF */
    APX_VEX = 2,    /* promoted from VEX: L, V4, NF */
    APX_COND = 3,   /* CCMP and CTEST: ND and a condition; vvvv are the default flags */
    APX_NF = 4      /* NF leaves the flags alone */
};
#define FORM_APX(memory) ((memory) & 3)

enum form_idiom {
    IDIOM_NONE,
    IDIOM_ZERO,      /* xor, sub: with the same register twice, a constant */
    IDIOM_CARRY,     /* sbb: with the same register twice, CF spread out */
    IDIOM_SHIFT,     /* by an immediate: a count of 0 leaves the flags alone */
    IDIOM_IGNORED,   /* nops: the operands are not even looked at */
    IDIOM_NAME       /* the mnemonic goes by address size */
};

/* EVEX: log2 of the disp8 scale (7: 4 or 8 bytes by W), whether it grows with the vector length, log2 of the
 * broadcast element, and the kind of static rounding. */
#define EVEX_FORM(scale, by_length, broadcast, rounding) ((scale) | (by_length) << 3 | (broadcast) << 4 | (rounding) << 6)
#define EVEX_SCALE(evex) ((evex) & 7)
#define EVEX_BY_LENGTH(evex) ((evex) >> 3 & 1)
#define EVEX_BROADCAST(evex) ((evex) >> 4 & 3)
#define EVEX_ROUNDING(evex) ((evex) >> 6)
enum evex_rounding { ROUNDING_NONE, ROUNDING_SAE, ROUNDING_ER };

typedef struct opcode_form {
    uint32_t attrs;    /* enum insn_attr that always hold */
    uint32_t slots;    /* enum slot_bit at SLOT_REG, SLOT_RM, SLOT_VVVV; SLOT_NAMES_… */
    uint16_t rules;    /* enum form_rule */
    uint8_t flow;      /* enum insn_flow; step follows it as in insn_t */
    uint8_t step;      /* enum insn_step */
    uint8_t size;      /* enum size_class */
    uint8_t memory;    /* enum form_memory and enum form_apx */
    uint8_t allow;     /* index of opcode_allow: bit ALLOW_KEY is set where the instruction exists */
    uint8_t evex;      /* EVEX_FORM */
} opcode_form_t;

_Static_assert(sizeof(opcode_form_t) == 16, "a shift finds it");

/* Of a form: what only insn_effects needs. */
typedef struct opcode_effects {
    uint8_t implicit;  /* index of opcode_implicit */
    uint8_t flags;     /* index of opcode_flags */
    uint8_t idiom;     /* enum form_idiom */
} opcode_effects_t;

/* Implicit general registers, bit n is register n. */
typedef struct opcode_implicit {
    uint16_t reads, writes;
    uint16_t kills;   /* always */
    uint16_t kills_v; /* if the operand size is at least 32 bits */
} opcode_implicit_t;

typedef struct opcode_flags {
    uint32_t reads, writes, undefined;
} opcode_flags_t;

/* ---- mnemonics ------------------------------------------------------------------------------------ */

/* Of a row: where its first name begins in opcode_mnemonics, and how many more follow it, chosen by operand size. */
#define MNEMONIC(first, more) ((first) | (more) << 14)
#define MNEMONIC_FIRST(mnemonic) ((mnemonic) & 0x3fff)
#define MNEMONIC_MORE(mnemonic) ((mnemonic) >> 14)

#endif
