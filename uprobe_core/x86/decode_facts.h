/* What the decoder looks up beside the opcode tables: prefixes, address forms, operand and immediate sizes. */
#ifndef UPROBES_DECODE_FACTS_H
#define UPROBES_DECODE_FACTS_H

#include <stdint.h>

#include "opcode_form.h"

/* Bytes that decode_bytes may read from where it starts, however the instruction turns out: 14 prefixes, three bytes of
 * opcode, ModRM, SIB, eight bytes of displacement and eight of immediate as they are loaded, and 3DNow!'s suffix. */
#define DECODE_WINDOW 48

/* ---- bytes before the opcode ---------------------------------------------------------------------- */

/* What a byte is where an opcode may stand. */
enum byte_class {
    BYTE_OPCODE, BYTE_PREFIX, BYTE_REX, BYTE_ESCAPE, BYTE_VEX2, BYTE_VEX3, BYTE_EVEX, BYTE_XOP, BYTE_REX2
};

#define REX_ROW [0x40 ... 0x4f] = BYTE_REX,
#define NO_REX_ROW
#define BYTE_CLASSES(rex) { \
    rex \
    [0x26] = BYTE_PREFIX, [0x2e] = BYTE_PREFIX, [0x36] = BYTE_PREFIX, [0x3e] = BYTE_PREFIX, \
    [0x64] = BYTE_PREFIX, [0x65] = BYTE_PREFIX, [0x66] = BYTE_PREFIX, [0x67] = BYTE_PREFIX, \
    [0xf0] = BYTE_PREFIX, [0xf2] = BYTE_PREFIX, [0xf3] = BYTE_PREFIX, \
    [0x0f] = BYTE_ESCAPE, [0xc5] = BYTE_VEX2, [0xc4] = BYTE_VEX3, [0x62] = BYTE_EVEX, [0x8f] = BYTE_XOP, \
    [0xd5] = BYTE_REX2, \
}

/* By mode: 64-bit, 32-bit. */
static const uint8_t decode_byte_class[2][256] = {BYTE_CLASSES(REX_ROW), BYTE_CLASSES(NO_REX_ROW)};

/* ---- ModRM ---------------------------------------------------------------------------------------- */

#define MODRM_DISP 7     /* bytes of displacement */
#define MODRM_SIB 8      /* a SIB byte follows */
#define MODRM_RELATIVE 16 /* relative to the next instruction in 64-bit mode */
#define MODRM_MEMORY 32

#define FIELDS_8(mod) (mod), (mod), (mod), (mod), (mod) | MODRM_SIB, (mod), (mod), (mod)
#define FIELDS_64(mod) FIELDS_8(mod), FIELDS_8(mod), FIELDS_8(mod), FIELDS_8(mod), \
                       FIELDS_8(mod), FIELDS_8(mod), FIELDS_8(mod), FIELDS_8(mod)
#define PLAIN_8 MODRM_MEMORY, MODRM_MEMORY, MODRM_MEMORY, MODRM_MEMORY, MODRM_MEMORY | MODRM_SIB, \
                MODRM_MEMORY | MODRM_RELATIVE | 4, MODRM_MEMORY, MODRM_MEMORY

/* 32- and 64-bit addressing (SDM vol. 2, table 2-2). A SIB byte with base 101 and mod 0 adds four bytes. */
static const uint8_t decode_modrm[256] = {
    PLAIN_8, PLAIN_8, PLAIN_8, PLAIN_8, PLAIN_8, PLAIN_8, PLAIN_8, PLAIN_8,
    FIELDS_64(MODRM_MEMORY | 1), FIELDS_64(MODRM_MEMORY | 4),
};

/* 16-bit addressing (table 2-1): mod 0, rm 110 is a lone disp16. */
static inline uint8_t decode_modrm_16(uint8_t modrm)
{
    uint8_t mod = modrm >> 6;

    if (mod == 3)
        return 0;
    if (mod == 0)
        return MODRM_MEMORY | ((modrm & 7) == 6 ? 2 : 0);
    return MODRM_MEMORY | mod;
}

/* Its base and index registers by rm: bx si, bx di, bp si, bp di, si, di, bp, bx. */
static const uint32_t decode_address_16[8] = {
    1 << 3 | 1 << 6, 1 << 3 | 1 << 7, 1 << 5 | 1 << 6, 1 << 5 | 1 << 7, 1 << 6, 1 << 7, 1 << 5, 1 << 3
};

/* What an operand in memory adds to the attributes, by enum form_memory. */
#define READS (INSN_MEM_READ | INSN_MAY_FAULT)
#define WRITES (INSN_MEM_WRITE | INSN_MAY_FAULT)
static const uint32_t decode_memory_attrs[8] = {
    0, READS, WRITES, READS | WRITES, INSN_LOCKED, READS | INSN_LOCKED, WRITES | INSN_LOCKED, READS | WRITES | INSN_LOCKED
};

/* ---- sizes ---------------------------------------------------------------------------------------- */

/* The context of an operand size: mode and vendor, W, and whether 66 is present. */
enum size_mode { MODE_64_AMD, MODE_64_INTEL, MODE_32_BITS };
#define SIZE_CONTEXT(mode, w, p66) ((mode) << 2 | (w) << 1 | (p66))

#define ALWAYS(n) {n, n, n, n, n, n, n, n, n, n, n, n}

/* Columns: 64-bit mode on AMD: plain, 66, W, W and 66; 64-bit mode on Intel, alike; 32-bit mode, alike. */
static const uint8_t decode_operand_size[SIZE_CLASSES][12] = {
    [SIZE_B] = ALWAYS(1), [SIZE_W] = ALWAYS(2), [SIZE_D] = ALWAYS(4), [SIZE_Q] = ALWAYS(8), [SIZE_X] = ALWAYS(16),
    [SIZE_YMM] = ALWAYS(32), [SIZE_ZMM] = ALWAYS(64), [SIZE_T] = ALWAYS(10), [SIZE_L] = ALWAYS(16),
    [SIZE_V] = {4, 2, 8, 8, 4, 2, 8, 8, 4, 2, 4, 2},
    [SIZE_Z] = {4, 2, 4, 4, 4, 2, 4, 4, 4, 2, 4, 2},
    [SIZE_Y] = {4, 4, 8, 8, 4, 4, 8, 8, 4, 4, 4, 4},
    [SIZE_D64] = {8, 2, 8, 8, 8, 2, 8, 8, 4, 2, 4, 2},
    [SIZE_F64] = {8, 8, 8, 8, 8, 8, 8, 8, 4, 4, 4, 4},
    [SIZE_NEAR] = {8, 2, 8, 8, 8, 8, 8, 8, 4, 2, 4, 2},
};

/* Bytes of all immediates, by operand size; IMM_OFFSET by address size. A size that is not listed has one of 4 bytes. */
#define EACH(n) {n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n}
static const uint8_t decode_imm_size[IMM_KINDS][16] = {
    [IMM_UB] = EACH(1), [IMM_SB] = EACH(1), [IMM_REL8] = EACH(1), [IMM_UW] = EACH(2), [IMM_TWO] = EACH(2),
    [IMM_ENTER] = EACH(3), [IMM_D] = EACH(4),
    [IMM_Z] = {[2] = 2, [4] = 4, [8] = 4},
    [IMM_RELZ] = {[2] = 2, [4] = 4, [8] = 4},
    [IMM_V] = {[2] = 2, [4] = 4, [8] = 8},
    [IMM_OFFSET] = {[2] = 2, [4] = 4, [8] = 8},
    [IMM_FAR] = {[2] = 4, [4] = 6, [8] = 6},
};

/* Bytes of the first immediate, by bytes of all: enter's imm16, a far pointer's offset. */
static const uint8_t decode_imm_first[IMM_KINDS][9] = {
    [IMM_UB] = {[1] = 1}, [IMM_SB] = {[1] = 1}, [IMM_REL8] = {[1] = 1}, [IMM_UW] = {[2] = 2}, [IMM_TWO] = {[2] = 1},
    [IMM_ENTER] = {[3] = 2}, [IMM_D] = {[4] = 4}, [IMM_Z] = {[2] = 2, [4] = 4}, [IMM_RELZ] = {[2] = 2, [4] = 4},
    [IMM_V] = {[2] = 2, [4] = 4, [8] = 8}, [IMM_OFFSET] = {[2] = 2, [4] = 4, [8] = 8}, [IMM_FAR] = {[4] = 2, [6] = 4},
};

/* Immediates that the instruction sign-extends. */
#define IMM_IS_SIGNED(kind) (((1u << IMM_SB | 1u << IMM_Z | 1u << IMM_V | 1u << IMM_REL8 | 1u << IMM_RELZ) >> (kind)) & 1)

/* The bits of a value of so many bytes, and its sign bit. */
static const uint64_t decode_mask[9] = {
    0, 0xff, 0xffff, 0, 0xffffffff, 0, 0, 0, UINT64_MAX
};
static const uint64_t decode_sign[9] = {
    0, 0x80, 0x8000, 0, 0x80000000, 0, 0, 0, 0x8000000000000000
};

#endif
