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

/* What a legacy prefix does: enum insn_prefix, what it selects as VEX.pp (F2 and F3), the segment. */
#define PREFIX(flag, pp, segment) ((flag) | (pp) << 8 | (segment) << 12)
#define PREFIX_PP(prefix) ((prefix) >> 8 & 3)
#define PREFIX_SEGMENT(prefix) ((prefix) >> 12)
static const uint16_t decode_prefix[256] = {
    [0x26] = PREFIX(PFX_SEGMENT, 0, SEG_ES), [0x2e] = PREFIX(PFX_SEGMENT, 0, SEG_CS),
    [0x36] = PREFIX(PFX_SEGMENT, 0, SEG_SS), [0x3e] = PREFIX(PFX_SEGMENT, 0, SEG_DS),
    [0x64] = PREFIX(PFX_SEGMENT, 0, SEG_FS), [0x65] = PREFIX(PFX_SEGMENT, 0, SEG_GS),
    [0x66] = PREFIX(PFX_66, 0, 0), [0x67] = PREFIX(PFX_67, 0, 0), [0xf0] = PREFIX(PFX_LOCK, 0, 0),
    [0xf2] = PREFIX(PFX_F2, 3, 0), [0xf3] = PREFIX(PFX_F3, 2, 0),
};

/* The byte after 0f: 38, 3a and 0f lead to maps of their own. */
static const uint8_t decode_second_byte[256] = {[0x0f] = BYTE_ESCAPE, [0x38] = BYTE_ESCAPE, [0x3a] = BYTE_ESCAPE};

/* ---- values in the bytes ---------------------------------------------------------------------------- */

/* How many bytes a displacement or an immediate takes its value from, and whether they are sign-extended. */
enum value_kind { VALUE_NONE, VALUE_U8, VALUE_U16, VALUE_U32, VALUE_64, VALUE_S8, VALUE_S16, VALUE_S32 };

static const uint64_t decode_value_mask[8] = {0, 0xff, 0xffff, 0xffffffff, UINT64_MAX, 0xff, 0xffff, 0xffffffff};
static const uint64_t decode_value_sign[8] = {0, 0, 0, 0, 0, 0x80, 0x8000, 0x80000000};

/* ---- ModRM ---------------------------------------------------------------------------------------- */

#define MODRM_RELATIVE 0x02 /* in 64-bit mode relative to the next instruction: INSN_RIP_RELATIVE */
#define MODRM_SIB 0x08      /* a SIB byte follows */
#define MODRM_MEMORY 0x20   /* with the next two bits, those of enum form_memory: it is memory */
#define MODRM_DISP(fields) ((fields) >> 8 & 15)   /* bytes of displacement */
#define MODRM_VALUE(fields) ((fields) >> 12 & 7) /* enum value_kind of it */
/* Registers that need a second look, at the places of SLOT_NAMES_RM and the like: number 4 is rsp, or with REX r12;
 * the byte registers 4 to 7 are AH to BH, or with REX SPL to DIL. */
#define MODRM_RM_4 (1u << 24)
#define MODRM_REG_4 (1u << 26)
#define MODRM_RM_HIGH (1u << 28)
#define MODRM_REG_HIGH (1u << 30)

#define DISPLACEMENT(size, value) ((size) << 8 | (value) << 12)

/* 32- and 64-bit addressing (SDM vol. 2, table 2-2). A SIB byte with base 101 and mod 0 adds four bytes. */
#define MODRM(m) ( \
    ((m) < 0xc0 ? MODRM_MEMORY * 7 : 0) | ((m) < 0xc0 && ((m) & 7) == 4 ? MODRM_SIB : 0) | \
    ((m) < 0x40 && ((m) & 7) == 5 ? MODRM_RELATIVE | DISPLACEMENT(4, VALUE_S32) : 0) | \
    ((m) >> 6 == 1 ? DISPLACEMENT(1, VALUE_S8) : 0) | ((m) >> 6 == 2 ? DISPLACEMENT(4, VALUE_S32) : 0) | \
    ((m) >= 0xc0 && ((m) & 7) == 4 ? MODRM_RM_4 : 0) | (((m) >> 3 & 7) == 4 ? MODRM_REG_4 : 0) | \
    ((m) >= 0xc0 && (m) & 4 ? MODRM_RM_HIGH : 0) | ((m) & 0x20 ? MODRM_REG_HIGH : 0))
#define MODRM_4(m) MODRM(m), MODRM((m) + 1), MODRM((m) + 2), MODRM((m) + 3)
#define MODRM_16(m) MODRM_4(m), MODRM_4((m) + 4), MODRM_4((m) + 8), MODRM_4((m) + 12)
#define MODRM_64(m) MODRM_16(m), MODRM_16((m) + 16), MODRM_16((m) + 32), MODRM_16((m) + 48)
static const uint32_t decode_modrm[256] = {MODRM_64(0u), MODRM_64(64u), MODRM_64(128u), MODRM_64(192u)};

/* SIB: INSN_STACK_POINTER where the base is number 4; MODRM_SIB where it is number 5, no base with mod 0. */
#define SIB_8(b) [b] = 0, 0, 0, 0, INSN_STACK_POINTER, MODRM_SIB, 0, 0
#define SIB_32(b) SIB_8(b), SIB_8((b) + 8), SIB_8((b) + 16), SIB_8((b) + 24)
static const uint32_t decode_sib[256] = {
    SIB_32(0), SIB_32(32), SIB_32(64), SIB_32(96), SIB_32(128), SIB_32(160), SIB_32(192), SIB_32(224)
};

/* 16-bit addressing (table 2-1): mod 0, rm 110 is a lone disp16. */
static inline uint32_t decode_modrm_16(uint32_t modrm)
{
    uint32_t registers = decode_modrm[modrm] & (0xff000000 | MODRM_MEMORY * 7);

    if (modrm >= 0xc0)
        return registers;
    if (modrm < 0x40)
        return registers | ((modrm & 7) == 6 ? DISPLACEMENT(2, VALUE_S16) : 0);
    return registers | (modrm < 0x80 ? DISPLACEMENT(1, VALUE_S8) : DISPLACEMENT(2, VALUE_S16));
}

/* Its base and index registers by rm: bx si, bx di, bp si, bp di, si, di, bp, bx. */
static const uint32_t decode_address_16[8] = {
    1 << 3 | 1 << 6, 1 << 3 | 1 << 7, 1 << 5 | 1 << 6, 1 << 5 | 1 << 7, 1 << 6, 1 << 7, 1 << 5, 1 << 3
};

/* What an operand in memory adds to the attributes, by enum form_memory / 32. */
#define READS (INSN_MEM_READ | INSN_MAY_FAULT)
#define WRITES (INSN_MEM_WRITE | INSN_MAY_FAULT)
static const uint32_t decode_memory_attrs[8] = {
    0, READS, WRITES, READS | WRITES, INSN_LOCKED, READS | INSN_LOCKED, WRITES | INSN_LOCKED, READS | WRITES | INSN_LOCKED
};

/* ---- sizes ---------------------------------------------------------------------------------------- */

/* What sizes depend on besides the opcode: mode and vendor, 67, W and 66. */
enum size_mode { MODE_64_AMD, MODE_64_INTEL, MODE_32_BITS };
#define CONTEXT(mode, p67, w, p66) ((mode) << 3 | (p67) << 2 | (w) << 1 | (p66))

/* A row of the tables below. Each mode has four columns: plain, 66, W, W and 66 (W beats 66); and again with 67. */
#define MODES(amd, intel, m32) {amd, amd, intel, intel, m32, m32}
#define COLUMNS(plain, p66, w, w66) plain, p66, w, w66
#define BOTH(c64, c32) MODES(COLUMNS c64, COLUMNS c64, COLUMNS c32)
#define ALWAYS(n) BOTH((n, n, n, n), (n, n, n, n))

static const uint8_t decode_operand_size[SIZE_CLASSES][32] = {
    [SIZE_B] = ALWAYS(1), [SIZE_W] = ALWAYS(2), [SIZE_D] = ALWAYS(4), [SIZE_Q] = ALWAYS(8), [SIZE_X] = ALWAYS(16),
    [SIZE_YMM] = ALWAYS(32), [SIZE_ZMM] = ALWAYS(64), [SIZE_T] = ALWAYS(10), [SIZE_L] = ALWAYS(16),
    [SIZE_V] = BOTH((4, 2, 8, 8), (4, 2, 4, 2)),
    [SIZE_Z] = BOTH((4, 2, 4, 4), (4, 2, 4, 2)),
    [SIZE_Y] = BOTH((4, 4, 8, 8), (4, 4, 4, 4)),
    [SIZE_D64] = BOTH((8, 2, 8, 8), (4, 2, 4, 2)),
    [SIZE_F64] = BOTH((8, 8, 8, 8), (4, 4, 4, 4)),
    [SIZE_NEAR] = MODES(COLUMNS(8, 2, 8, 8), COLUMNS(8, 8, 8, 8), COLUMNS(4, 2, 4, 2)),
};

/* Bytes of all immediates, and where the value of the first comes from. */
#define IMM(size, value) ((size) | (value) << 4)
#define IMM_SIZE(immediate) ((immediate) & 15)
#define IMM_VALUE(immediate) ((immediate) >> 4)
#define IMM_IS_RELATIVE(kind) ((kind) >= IMM_REL8)
#define S16 IMM(2, VALUE_S16)
#define S32 IMM(4, VALUE_S32)
#define Q64 IMM(8, VALUE_64)
#define FAR_16 IMM(4, VALUE_U16)
#define FAR_32 IMM(6, VALUE_U32)
#define OFFSET(n, small, value) n, n, n, n, IMM(small, value), IMM(small, value), IMM(small, value), IMM(small, value)
static const uint8_t decode_immediate[16][32] = {
    [IMM_UB] = ALWAYS(IMM(1, VALUE_U8)), [IMM_SB] = ALWAYS(IMM(1, VALUE_S8)), [IMM_UW] = ALWAYS(IMM(2, VALUE_U16)),
    [IMM_TWO] = ALWAYS(IMM(2, VALUE_U8)), [IMM_D] = ALWAYS(IMM(4, VALUE_U32)), [IMM_ENTER] = ALWAYS(IMM(3, VALUE_U16)),
    [IMM_Z] = BOTH((S32, S16, S32, S32), (S32, S16, S32, S16)),
    [IMM_V] = BOTH((S32, S16, Q64, Q64), (S32, S16, S32, S16)),
    [IMM_FAR] = BOTH((FAR_32, FAR_16, FAR_32, FAR_32), (FAR_32, FAR_16, FAR_32, FAR_16)),
    [IMM_OFFSET] = {OFFSET(Q64, 4, VALUE_U32), OFFSET(Q64, 4, VALUE_U32), OFFSET(IMM(4, VALUE_U32), 2, VALUE_U16)},
    [IMM_REL8] = ALWAYS(IMM(1, VALUE_S8)),
    [IMM_RELZ] = BOTH((S32, S16, S32, S32), (S32, S16, S32, S16)),
    [IMM_NEAR] = MODES(COLUMNS(S32, S16, S32, S32), COLUMNS(S32, S32, S32, S32), COLUMNS(S32, S16, S32, S16)),
};

/* An address of so many bytes. */
static const uint64_t decode_address_mask[9] = {[2] = 0xffff, [4] = 0xffffffff, [8] = UINT64_MAX};

#endif
