"""opcode_form.h, opcode_tables.h and decode_facts.h for Cython. The headers say what everything means."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from uprobe_core.abi cimport insn_t


cdef extern from "decode_facts.h" nogil:
    enum:
        DECODE_WINDOW
        BYTE_OPCODE
        BYTE_PREFIX
        BYTE_REX
        BYTE_ESCAPE
        BYTE_VEX2
        BYTE_VEX3
        BYTE_EVEX
        BYTE_XOP
        BYTE_REX2
        MODRM_RELATIVE
        MODRM_SIB
        MODRM_MEMORY
        MODE_64_AMD
        MODE_64_INTEL
        MODE_32_BITS
    const uint8_t decode_byte_class[2][256]
    const uint16_t decode_prefix[256]
    uint32_t PREFIX_PP(uint32_t prefix)
    uint32_t PREFIX_SEGMENT(uint32_t prefix)
    const uint8_t decode_second_byte[256]
    const uint32_t decode_modrm[256]
    const uint32_t decode_address_16[8]
    const uint64_t decode_address_mask[9]
    uint32_t decode_modrm_16(uint32_t modrm)
    uint32_t MODRM_DISP(uint32_t fields)
    uint32_t CONTEXT(uint32_t mode, uint32_t p67, uint32_t w, uint32_t p66)


cdef extern from "decode_operands.h" nogil:
    void decode_operands(const uint8_t *code, const uint8_t *cursor, uint32_t entry, uint32_t modrm, uint32_t low,
                         uint32_t rex, uint32_t bare, uint32_t context, uint32_t address_size, uint32_t relative,
                         uint64_t ip, insn_t *out)


cdef extern from "opcode_form.h" nogil:
    enum:
        SELECT_PP
        SELECT_L
        SELECT_REXB
        SELECT_W
        SELECT_INTEL
        SELECT_32
        SELECT_66
        SELECT_ND
        SELECT_NF
        SELECT_REX2
        SELECT_APX
        APX_NONE
        APX_LEGACY
        APX_VEX
        APX_COND
        APX_NF
        RULE_LOCK
        RULE_LOCK_AMD
        RULE_REP
        RULE_ANYMOD
        RULE_MANDATORY
        RULE_VVVV
        RULE_VSIB
        RULE_UNIQUE
        RULE_UNIQUE_DEST
        RULE_SIB
        RULE_MASK
        RULE_MASK_REQUIRED
        RULE_ZEROING
        RULE_TILE
        RULE_VENDOR_W
        RULE_FETCHES_TWO
        SLOT_GPR
        SLOT_BYTE
        SLOT_READ
        SLOT_WRITE
        SLOT_KILL_V
        SLOT_KILL
        SLOT_READ_32
        SLOT_MASK
        SLOT_REG
        SLOT_RM
        SLOT_VVVV
        MEMORY_READ
        MEMORY_WRITE
        IDIOM_NONE
        IDIOM_ZERO
        IDIOM_CARRY
        IDIOM_SHIFT
        IDIOM_IGNORED
        IDIOM_NAME
        ROUNDING_NONE
        ROUNDING_SAE
        ROUNDING_ER
        SIZE_L
        SIZE_NEAR
    const uint32_t ENTRY_NODE
    const uint32_t ENTRY_MODRM
    const uint32_t ENTRY_CHECKED
    uint32_t ENTRY_HAS_MODRM(uint32_t entry)
    uint32_t NODE_SHIFT(uint32_t entry)
    uint32_t NODE_MASK(uint32_t entry)
    uint32_t NODE_OFFSET(uint32_t entry)
    uint32_t LEAF_ROW(uint32_t entry)
    uint32_t LEAF_FORM(uint32_t entry)
    uint32_t SELECT_MODRM(uint32_t modrm)
    uint32_t ALLOW_KEY(uint32_t selector)
    uint32_t FORM_APX(uint32_t memory)
    uint32_t EVEX_SCALE(uint32_t evex)
    uint32_t EVEX_BY_LENGTH(uint32_t evex)
    uint32_t EVEX_BROADCAST(uint32_t evex)
    uint32_t EVEX_ROUNDING(uint32_t evex)
    uint32_t MNEMONIC_FIRST(uint32_t mnemonic)
    uint32_t MNEMONIC_MORE(uint32_t mnemonic)

    ctypedef struct opcode_form_t:
        uint32_t attrs
        uint32_t slots
        uint16_t rules
        uint8_t flow
        uint8_t step
        uint8_t size
        uint8_t memory
        uint8_t allow
        uint8_t evex

    ctypedef struct opcode_effects_t:
        uint8_t implicit
        uint8_t flags
        uint8_t idiom

    ctypedef struct opcode_implicit_t:
        uint16_t reads
        uint16_t writes
        uint16_t kills
        uint16_t kills_v

    ctypedef struct opcode_flags_t:
        uint32_t reads
        uint32_t writes
        uint32_t undefined


cdef extern from "opcode_tables.h" nogil:
    const uint32_t NO_ROOT
    uint32_t ROOT_ONE(uint32_t mode_32)
    const uint32_t ROOT_0F
    uint32_t OPCODE_ROOT(uint32_t encoding, uint32_t map_number)
    const uint16_t opcode_sixteens[]
    const uint32_t opcode_tree[]
    const opcode_form_t opcode_forms[]
    const opcode_effects_t opcode_effects[]
    const uint64_t opcode_allow[]
    const opcode_implicit_t opcode_implicit[]
    const opcode_flags_t opcode_flags[]
    const uint16_t opcode_row_mnemonic[]
    const char opcode_mnemonics[]
