"""Decode one x86 instruction as the processor does. The contract stands in decode.pxd.

The bytes are parsed in the processor's order (prefixes, opcode, ModRM, SIB, displacement, immediate); everything that
depends on the opcode comes from the tables that opcodes.txt makes. Where a size or an attribute can be looked up there
is no branch: a mispredicted one costs as much as all the look-ups.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from uprobe_core.abi cimport *
from uprobe_core.status cimport *


cdef extern from "decode_facts.h" nogil:
    enum:
        BYTE_OPCODE
        BYTE_PREFIX
        BYTE_REX
        BYTE_ESCAPE
        BYTE_VEX2
        BYTE_VEX3
        BYTE_EVEX
        BYTE_XOP
        BYTE_REX2
        MODRM_DISP
        MODRM_SIB
        MODRM_RELATIVE
        MODRM_MEMORY
        MODE_64_AMD
        MODE_64_INTEL
        MODE_32_BITS
        DECODE_WINDOW
    const uint8_t decode_byte_class[2][256]
    const uint8_t decode_modrm[256]
    const uint32_t decode_memory_attrs[8]
    const uint8_t decode_operand_size[15][12]
    const uint8_t decode_imm_size[13][16]
    const uint8_t decode_imm_first[13][9]
    const uint64_t decode_mask[9]
    const uint64_t decode_sign[9]
    const uint32_t decode_address_16[8]
    uint8_t decode_modrm_16(uint8_t modrm)
    uint32_t SIZE_CONTEXT(uint32_t mode, uint32_t w, uint32_t p66)
    uint32_t IMM_IS_SIGNED(uint32_t kind)


cdef extern from "opcode_form.h" nogil:
    enum:
        SELECT_MOD
        SELECT_PP
        SELECT_W
        SELECT_L
        SELECT_REXB
        SELECT_AMD
        SELECT_32
        SELECT_REXR
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
        RULE_OPCODE_REG
        RULE_VENDOR_W
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
        IDIOM_ROTATE_CARRY
        IDIOM_IGNORED
        IDIOM_NAME
        ROUNDING_NONE
        ROUNDING_SAE
        ROUNDING_ER
        SIZE_L
        SIZE_NEAR
        IMM_OFFSET
        IMM_ENTER
        IMM_FAR
        IMM_TWO
        IMM_REL8
        IMM_RELZ
    const uint32_t ENTRY_NODE
    const uint32_t NODE_MODRM
    const uint32_t LEAF_MODRM
    uint32_t NODE_SHIFT(uint32_t entry)
    uint32_t NODE_MASK(uint32_t entry)
    uint32_t NODE_OFFSET(uint32_t entry)
    uint32_t LEAF_ROW(uint32_t entry)
    uint32_t LEAF_IMM(uint32_t entry)
    uint32_t LEAF_FORM(uint32_t entry)
    uint32_t ALLOW_KEY(uint32_t selector)
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
        uint8_t size
        uint8_t flow
        uint8_t step
        uint8_t memory
        uint8_t allow
        uint8_t evex
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
    uint32_t OPCODE_ROOT(uint32_t encoding, uint32_t map_number)
    const uint32_t opcode_tree[]
    const opcode_form_t opcode_forms[]
    const uint64_t opcode_allow[]
    const opcode_implicit_t opcode_implicit[]
    const opcode_flags_t opcode_flags[]
    const uint16_t opcode_row_mnemonic[]
    const uint16_t opcode_mnemonic_at[]
    const char opcode_mnemonics[]


# What the bytes before ModRM say; filled by the parsers of the encodings.
cdef struct opcode_t:
    uint32_t entry     # of opcode_tree
    uint32_t selector  # all but ModRM's bits
    uint32_t rex       # W R X B as 8 4 2 1
    uint32_t rex_high
    uint32_t vvvv
    uint32_t length    # vector length: L'L
    uint32_t evex


cdef inline uint64_t load_64(const uint8_t *bytes) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, bytes, 8)
    return value


cdef inline int64_t load_signed(const uint8_t *bytes, uint32_t size) noexcept nogil:
    """`size` bytes (0, 1, 2, 4, 8), sign-extended."""
    cdef uint64_t sign = decode_sign[size]
    return <int64_t>(((load_64(bytes) & decode_mask[size]) ^ sign) - sign)


cdef inline const uint8_t *parse_prefixes(const uint8_t *cursor, const uint8_t *end, uint32_t mode_32, insn_t *out,
                                          uint32_t *rex) noexcept nogil:
    """Past all prefixes, in any order and number. Of F2 and F3 the last counts; REX only right before the opcode."""
    cdef uint32_t prefixes = 0, segment = SEG_NONE, byte
    cdef uint32_t repeat = 0
    rex[0] = 0
    while cursor < end:
        byte = cursor[0]
        if decode_byte_class[mode_32][byte] == BYTE_REX:
            rex[0] = byte
        elif decode_byte_class[mode_32][byte] == BYTE_PREFIX:
            rex[0] = 0
            if byte == 0x66:
                prefixes |= PFX_66
            elif byte == 0x67:
                prefixes |= PFX_67
            elif byte == 0xF0:
                prefixes |= PFX_LOCK
            elif byte == 0xF2:
                prefixes |= PFX_F2
                repeat = 3
            elif byte == 0xF3:
                prefixes |= PFX_F3
                repeat = 2
            else:
                prefixes |= PFX_SEGMENT
                if byte >= 0x64:
                    segment = SEG_FS + (byte - 0x64)
                elif mode_32:  # ES, CS, SS and DS have no effect in 64-bit mode, not even after FS or GS
                    segment = SEG_ES + ((byte - 0x26) >> 3)
        else:
            break
        cursor += 1
    out.prefixes = <uint8_t>prefixes
    out.segment = <uint8_t>segment
    out.pp = <uint8_t>(repeat if repeat else prefixes & PFX_66)
    return cursor


cdef inline const uint8_t *parse_vex(const uint8_t *cursor, uint32_t byte_class, insn_t *out,
                                     opcode_t *opcode) noexcept nogil:
    """VEX (SDM vol. 2, 2.3.5) and XOP (APM vol. 3, 1.2.7): fields and opcode. Returns the byte after the opcode."""
    cdef uint32_t first = cursor[1], last, map_number
    if byte_class == BYTE_VEX2:
        last = first & 0x7F
        map_number = MAP_0F
        opcode.rex = (first >> 5 & 4) ^ 4
        cursor += 2
    else:
        last = cursor[2]
        map_number = first & 0x1F
        opcode.rex = (first >> 5 ^ 7) | (last >> 4 & 8)
        cursor += 3
    out.encoding = ENC_XOP if byte_class == BYTE_XOP else ENC_VEX
    out.map = <uint8_t>map_number
    out.pp = last & 3
    opcode.vvvv = (last >> 3 & 15) ^ 15
    opcode.length = last >> 2 & 1
    opcode.entry = OPCODE_ROOT(out.encoding, map_number) if map_number < 16 else NO_ROOT
    return cursor


cdef inline const uint8_t *parse_evex(const uint8_t *cursor, insn_t *out, opcode_t *opcode) noexcept nogil:
    """EVEX (SDM vol. 2, 2.7.1). The fixed bits have been checked."""
    cdef uint32_t p0 = cursor[1], p1 = cursor[2], p2 = cursor[3]
    out.encoding = ENC_EVEX
    out.map = p0 & 7
    out.pp = p1 & 3
    opcode.rex = (p0 >> 5 ^ 7) | (p1 >> 4 & 8)
    opcode.rex_high = (p0 >> 2 & 4) ^ 4
    opcode.vvvv = ((p1 >> 3 & 15) ^ 15) | ((p2 << 1 & 16) ^ 16)
    opcode.length = p2 >> 5 & 3
    opcode.evex = p2 & 0x97
    opcode.entry = OPCODE_ROOT(ENC_EVEX, out.map)
    return cursor + 4


cdef inline int check_vector(const opcode_form_t *form, const opcode_t *opcode, uint32_t modrm, uint32_t sib,
                             uint32_t fields, uint32_t mode_32, uint32_t amd) noexcept nogil:
    """The rules of VEX, EVEX and XOP beyond the opcode: whether the processor takes this combination."""
    cdef uint32_t rules = form.rules, is_register = not fields & MODRM_MEMORY
    cdef uint32_t reg = (modrm >> 3 & 7) | (opcode.rex & 4) << 1 | (opcode.rex_high & 4) << 2
    cdef uint32_t rm = (modrm & 7) | (opcode.rex & 1) << 3 | (opcode.rex & 2) << 3
    cdef uint32_t index = (sib >> 3 & 7) | (opcode.rex & 2) << 2 | (opcode.vvvv & 16)
    cdef uint32_t vvvv = opcode.vvvv & (7 if mode_32 else 31)
    if not rules & RULE_VVVV and opcode.vvvv & (15 if rules & RULE_VSIB else 31) or mode_32 and opcode.vvvv & 16:
        return 0
    if rules & (RULE_VSIB | RULE_SIB) and not fields & MODRM_SIB:
        return 0
    if rules & RULE_UNIQUE:
        if rules & RULE_VSIB:
            if reg == index or rules & RULE_VVVV and (vvvv == reg or vvvv == index):
                return 0
        elif reg == rm or reg == vvvv or rm == vvvv:
            return 0
    if rules & RULE_UNIQUE_DEST and (rules & RULE_VVVV and reg == vvvv or is_register and reg == rm):
        return 0
    if rules & RULE_TILE and ((reg | vvvv) & 8 or is_register and rm & 8):
        return 0
    if form.slots >> SLOT_VVVV & SLOT_MASK and vvvv & 8:
        return 0
    # VEX.R with a mask register: AMD's first processors with EVEX ignore it.
    if form.slots >> SLOT_REG & SLOT_MASK and opcode.rex & 4 and not amd:
        return 0
    # Only APX has general registers from 16 on.
    if form.slots >> SLOT_REG & SLOT_GPR and opcode.rex_high & 4:
        return 0
    return 1


cdef inline int check_evex(const opcode_form_t *form, const opcode_t *opcode, uint32_t fields,
                           uint32_t amd) noexcept nogil:
    """Masking, zeroing, broadcast, and register numbers that do not exist."""
    cdef uint32_t rules = form.rules, evex = opcode.evex, is_memory = fields & MODRM_MEMORY
    if evex & 7:
        if not rules & RULE_MASK:
            return 0
    elif rules & RULE_MASK_REQUIRED:
        return 0
    if evex & 0x80 and (not rules & RULE_ZEROING or not evex & 7 or is_memory and form.memory & MEMORY_WRITE):
        return 0
    if evex & 0x10 and is_memory and not EVEX_BROADCAST(form.evex):
        return 0
    if form.slots >> SLOT_REG & SLOT_MASK and (opcode.rex & 4 or opcode.rex_high & 4):
        return 0
    # b without memory and without rounding: AMD's first processors with EVEX ignore it.
    if evex & 0x10 and not is_memory and not EVEX_ROUNDING(form.evex) and not amd:
        return 0
    return 1


cdef inline uint32_t evex_disp_scale(const opcode_form_t *form, const opcode_t *opcode) noexcept nogil:
    """log2 of what an EVEX disp8 is multiplied by (SDM vol. 2, 2.7.5)."""
    cdef uint32_t scale = EVEX_SCALE(form.evex)
    if opcode.evex & 0x10 and EVEX_BROADCAST(form.evex):
        return EVEX_BROADCAST(form.evex)
    if scale == 7:
        return 2 + (opcode.rex >> 3)
    return scale + (opcode.length if EVEX_BY_LENGTH(form.evex) else 0)


cdef inline uint32_t register_attrs(const opcode_form_t *form, const insn_t *insn, uint32_t fields,
                                    uint32_t bare) noexcept nogil:
    """Whether the instruction names rsp, or AH to BH (`bare`: no REX, so that byte registers 4 to 7 are those)."""
    cdef uint32_t slots = form.slots, is_register = (fields & MODRM_MEMORY) == 0
    cdef uint32_t reg = insn.modrm >> 3 & 7, rm = insn.modrm & 7, rex = insn.rex
    cdef uint32_t reg_high, rm_high, reg_stack, rm_stack, base_stack, vvvv_stack
    if form.rules & RULE_OPCODE_REG:
        reg = insn.opcode & 7
        rex = rex << 2
    reg_high = (slots >> SLOT_REG & SLOT_BYTE) >> 1 & bare & reg >> 2
    rm_high = (slots >> SLOT_RM & SLOT_BYTE) >> 1 & bare & rm >> 2 & is_register
    reg_stack = slots >> SLOT_REG & SLOT_GPR & (reg == 4) & (rex >> 2 ^ 1) & (reg_high ^ 1)
    rm_stack = slots >> SLOT_RM & SLOT_GPR & (rm == 4) & (insn.rex ^ 1) & is_register & (rm_high ^ 1)
    base_stack = (fields >> 3) & ((insn.sib & 7) == 4) & (insn.rex ^ 1)
    vvvv_stack = slots >> SLOT_VVVV & SLOT_GPR & (insn.vvvv == 4)
    return (reg_high | rm_high) * <uint32_t>INSN_HIGH_BYTE | ((reg_stack | rm_stack | base_stack | vvvv_stack) & 1) * (
        <uint32_t>INSN_STACK_POINTER)


cdef int decode_bytes(const uint8_t *code, uint64_t ip, uint32_t options, insn_t *out) noexcept nogil:
    """insn_decode for DECODE_WINDOW readable bytes. Failing, out.length is the number of bytes that decided."""
    cdef uint32_t mode_32 = (options & DECODE_32) != 0, amd = (options & DECODE_AMD) != 0
    cdef uint32_t byte, byte_class, rex, entry, seen = 0, selector, modrm, fields, sib, attrs, form_attrs
    cdef uint32_t has_modrm, is_relative, disp_size, address_size, operand_size, imm_kind, imm_size, length, size_mode
    cdef uint32_t immediate_first, is_branch, suffix_size = 0, bare
    cdef const uint8_t *cursor = code
    cdef const opcode_form_t *form
    cdef opcode_t opcode
    cdef int64_t imm, disp
    cdef uint64_t target

    memset(out, 0, sizeof(insn_t))
    out.bits = 32 if mode_32 else 64

    # One REX and no other prefix is the common case.
    byte = cursor[0]
    rex = byte if decode_byte_class[mode_32][byte] == BYTE_REX else 0
    cursor += rex >> 6
    byte_class = decode_byte_class[mode_32][cursor[0]]
    if byte_class == BYTE_PREFIX or byte_class == BYTE_REX:
        cursor = parse_prefixes(code, code + INSN_MAX, mode_32, out, &rex)
        if cursor == code + INSN_MAX:
            out.length = INSN_MAX + 1
            return STATUS_TOO_LONG
        byte_class = decode_byte_class[mode_32][cursor[0]]
    out.prefix_len = <uint8_t>(cursor - code)
    out.prefixes |= rex & PFX_REX
    bare = rex >> 6 ^ 1

    opcode.rex = rex & 15
    opcode.rex_high = 0
    opcode.vvvv = 0
    opcode.length = 0
    opcode.evex = 0

    if byte_class >= BYTE_VEX2:
        # In 32-bit mode c4, c5 and 62 are LES, LDS and BOUND where ModRM names memory; 8f is XOP from map 8 on.
        if byte_class == BYTE_REX2:
            byte_class = BYTE_OPCODE
        elif byte_class == BYTE_XOP:
            if (cursor[1] & 0x1F) < 8:
                byte_class = BYTE_OPCODE
        elif mode_32 and cursor[1] < 0xC0:
            byte_class = BYTE_OPCODE
    if byte_class == BYTE_OPCODE:
        out.map = MAP_ONE
        opcode.entry = ROOT_ONE(mode_32)
    elif byte_class == BYTE_ESCAPE:
        cursor += 1
        byte = cursor[0]
        if byte == 0x38:
            cursor += 1
            out.map = MAP_0F38
        elif byte == 0x3A:
            cursor += 1
            out.map = MAP_0F3A
        else:
            out.map = MAP_0F
        opcode.entry = OPCODE_ROOT(ENC_LEGACY, out.map)
    else:
        out.length = <uint8_t>(cursor - code + 2)
        if out.prefixes & (PFX_66 | PFX_F2 | PFX_F3 | PFX_LOCK | PFX_REX):
            return STATUS_PREFIX
        bare = 0
        if byte_class == BYTE_EVEX:
            if cursor[1] & 8 or not cursor[2] & 4:
                out.length = <uint8_t>(cursor - code + 3)
                return STATUS_INVALID
            cursor = parse_evex(cursor, out, &opcode)
        else:
            cursor = parse_vex(cursor, byte_class, out, &opcode)
        if opcode.entry == NO_ROOT:
            out.length = <uint8_t>(cursor - code)
            return STATUS_INVALID
        if mode_32:  # there are eight registers: the high bits of their numbers are ignored
            opcode.rex &= 8
            opcode.rex_high = 0
        out.rex_high = <uint8_t>opcode.rex_high
        out.evex = <uint8_t>opcode.evex
        out.vector_length = <uint8_t>opcode.length
    out.rex = <uint8_t>opcode.rex
    byte = cursor[0]
    out.opcode = <uint8_t>byte
    out.opcode_off = <uint8_t>(cursor - code)
    cursor += 1
    modrm = cursor[0]

    # 3DNow! has its opcode after the operands.
    if out.map == MAP_0F and byte == 0x0F and out.encoding == ENC_LEGACY:
        fields = decode_modrm[modrm]
        if mode_32 and out.prefixes & PFX_67:
            fields = decode_modrm_16(<uint8_t>modrm)
        disp_size = fields & MODRM_DISP
        if fields & MODRM_SIB and modrm < 0x40 and (cursor[1] & 7) == 5:
            disp_size = 4
        out.encoding = ENC_3DNOW
        out.map = MAP_3DNOW
        out.opcode_off = <uint8_t>(cursor - code + 1 + (fields >> 3 & 1) + disp_size)
        byte = code[out.opcode_off]
        out.opcode = <uint8_t>byte
        opcode.entry = OPCODE_ROOT(ENC_3DNOW, MAP_3DNOW)
        suffix_size = 1
        seen = NODE_MODRM

    selector = (
        (modrm & 63) | (modrm >= 0xC0) << SELECT_MOD | <uint32_t>out.pp << SELECT_PP | (opcode.rex >> 3) << SELECT_W
        | opcode.length << SELECT_L | (opcode.rex & 1) << SELECT_REXB | (opcode.rex >> 2 & 1) << SELECT_REXR | amd << SELECT_AMD | mode_32 << SELECT_32
    )
    entry = opcode_tree[opcode.entry + byte]
    while entry & ENTRY_NODE:
        seen |= entry
        entry = opcode_tree[NODE_OFFSET(entry) + (selector >> NODE_SHIFT(entry) & NODE_MASK(entry))]
    has_modrm = (entry | seen) >> 30 & 1
    out.length = <uint8_t>(cursor - code + has_modrm)
    if suffix_size:
        out.length = out.opcode_off + 1
    if entry == 0:
        return STATUS_INVALID

    # ModRM, SIB, displacement.
    has_modrm = entry >> 30 & 1
    form = &opcode_forms[LEAF_FORM(entry)]
    address_size = 4 if mode_32 else 8
    address_size >>= (out.prefixes & PFX_67) >> 1
    if form.rules & RULE_ANYMOD:
        modrm |= 0xC0
    modrm = modrm if has_modrm else 0xC0
    fields = decode_modrm[modrm]
    if address_size == 2:
        fields = decode_modrm_16(<uint8_t>modrm)
    sib = cursor[1] if fields & MODRM_SIB else 0
    disp_size = fields & MODRM_DISP
    disp_size |= ((fields >> 3) & (modrm < 0x40) & ((sib & 7) == 5)) << 2
    is_relative = fields >> 4 & (mode_32 ^ 1) & 1
    out.modrm_off = <uint8_t>((cursor - code) * has_modrm)
    out.modrm = <uint8_t>(cursor[0] * has_modrm)
    cursor += has_modrm
    out.sib = <uint8_t>sib
    out.has_sib = <uint8_t>(fields >> 3 & 1)
    cursor += fields >> 3 & 1
    disp = load_signed(cursor, disp_size)
    out.disp_off = <uint8_t>((cursor - code) if disp_size else 0)
    out.disp_size = <uint8_t>disp_size
    cursor += disp_size

    # What the processor refuses although it knows the opcode.
    if out.encoding == ENC_EVEX:
        if opcode.evex & 0x10 and not fields & MODRM_MEMORY and EVEX_ROUNDING(form.evex):
            # L'L is the rounding mode, or ignored; the vectors have 512 bits (SDM vol. 2, 2.7.8).
            opcode.length = 2
            selector = (selector & ~(<uint32_t>3 << SELECT_L)) | 2 << SELECT_L
            out.vector_length = 2
        if not check_evex(form, &opcode, fields, amd):
            return STATUS_INVALID
        if disp_size == 1:
            disp = disp << evex_disp_scale(form, &opcode)
    if not opcode_allow[form.allow] >> ALLOW_KEY(selector) & 1:
        return STATUS_INVALID
    if byte_class >= BYTE_VEX2 and not check_vector(form, &opcode, modrm, sib, fields, mode_32, amd):
        return STATUS_INVALID
    out.disp = <int32_t>disp
    form_attrs = form.attrs | decode_memory_attrs[form.memory if fields & MODRM_MEMORY else 0]
    if out.prefixes & PFX_LOCK:
        if amd and form.rules & RULE_LOCK_AMD and (fields & MODRM_MEMORY or form.rules & RULE_ANYMOD):
            form_attrs |= INSN_VENDOR
        elif not form.rules & RULE_LOCK or not fields & MODRM_MEMORY:
            return STATUS_LOCK
        form_attrs |= INSN_LOCKED
    if form.rules & RULE_REP and out.prefixes & (PFX_F2 | PFX_F3):
        form_attrs |= INSN_REPEATED

    # Sizes, immediate, target.
    size_mode = <uint32_t>MODE_32_BITS if mode_32 else <uint32_t>MODE_64_AMD if amd else <uint32_t>MODE_64_INTEL
    operand_size = decode_operand_size[form.size][SIZE_CONTEXT(size_mode, opcode.rex >> 3, out.prefixes & PFX_66)]
    imm_kind = LEAF_IMM(entry)
    imm_size = decode_imm_size[imm_kind][(address_size if imm_kind == IMM_OFFSET else operand_size) & 15]
    immediate_first = decode_imm_first[imm_kind][imm_size]
    imm = load_signed(cursor, immediate_first)
    out.imm = imm if IMM_IS_SIGNED(imm_kind) else <int64_t>(<uint64_t>imm & decode_mask[immediate_first])
    out.imm_off = <uint8_t>((cursor - code) if imm_size else 0)
    out.imm_size = <uint8_t>imm_size
    length = <uint32_t>(cursor - code) + imm_size + suffix_size
    out.length = <uint8_t>length

    is_branch = imm_kind == IMM_REL8 or imm_kind == IMM_RELZ
    target = ip + length + <uint64_t>(imm if is_branch else disp)
    if is_branch:  # 66 truncates near branches, not XBEGIN
        target &= decode_mask[operand_size if mode_32 or form.size == SIZE_NEAR else 8]
    else:
        target &= decode_mask[address_size]
    out.target = target if is_branch or is_relative else 0

    out.flow = form.flow
    out.step = form.step
    out.row = <uint16_t>LEAF_ROW(entry)
    out.form = <uint16_t>LEAF_FORM(entry)
    out.address_size = <uint8_t>address_size
    out.operand_size = <uint8_t>operand_size
    out.vvvv = <uint8_t>(opcode.vvvv & (7 if mode_32 else 31) if form.rules & RULE_VVVV else 0)
    attrs = form_attrs | has_modrm * <uint32_t>INSN_HAS_MODRM | is_relative * <uint32_t>INSN_RIP_RELATIVE
    attrs |= register_attrs(form, out, fields, bare)
    if form_attrs & INSN_REPEATED:
        out.step = STEP_REPEAT
    if form.size == SIZE_NEAR and out.prefixes & PFX_66 and not mode_32 and not opcode.rex & 8:
        attrs |= INSN_VENDOR
    if form.rules & RULE_VENDOR_W and opcode.rex & 8:
        attrs |= INSN_VENDOR
    out.attrs = attrs
    if out.encoding == ENC_LEGACY and not form.rules & RULE_MANDATORY:
        out.pp = 0
    if form.size == SIZE_L:
        out.operand_size = <uint8_t>(16 << opcode.length)
    if length > INSN_MAX:
        return STATUS_TOO_LONG
    return STATUS_OK


cdef int insn_decode(const uint8_t *code, size_t size, uint64_t ip, uint32_t options, insn_t *out) noexcept nogil:
    cdef uint8_t window[DECODE_WINDOW]
    cdef int status
    if size >= DECODE_WINDOW:
        status = decode_bytes(code, ip, options, out)
    elif size == 0:
        memset(out, 0, sizeof(insn_t))
        return STATUS_EMPTY
    else:
        # The instruction may end within the bytes given or not: zeros stand for the rest, and what looked at them failed.
        memset(window, 0, DECODE_WINDOW)
        memcpy(window, code, size)
        status = decode_bytes(window, ip, options, out)
        if out.length > size and size < INSN_MAX:
            out.length = <uint8_t>size
            return STATUS_TRUNCATED
    if out.length > INSN_MAX:
        out.length = INSN_MAX
        return STATUS_TOO_LONG
    return status


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


cdef inline void idiom_effects(const insn_t *insn, const opcode_form_t *form, uint32_t same, effects_t *out) noexcept nogil:
    """What depends on the operands themselves. same: ModRM names one register twice."""
    cdef uint32_t size = insn.operand_size, count
    if form.idiom == IDIOM_SHIFT or form.idiom == IDIOM_ROTATE_CARRY:
        count = <uint32_t>insn.imm & (63 if size == 8 else 31)
        if form.idiom == IDIOM_ROTATE_CARRY and size <= 2:
            count %= 8 * size + 1
        if count == 0:
            out.flags_read = out.flags_written = out.flags_undefined = 0
        elif count == 1:
            out.flags_undefined &= ~EFLAGS_OF
    elif form.idiom == IDIOM_IGNORED:
        out.reads = 0
    elif same and form.idiom != IDIOM_NAME:  # xor, sub, sbb of a register with itself
        out.reads = 0
        out.kills = out.writes if size >= 4 else 0


cdef void insn_effects(const insn_t *insn, effects_t *out) noexcept nogil:
    cdef const opcode_form_t *form = &opcode_forms[insn.form]
    cdef const opcode_implicit_t *implicit = &opcode_implicit[form.implicit]
    cdef const opcode_flags_t *flags = &opcode_flags[form.flags]
    cdef uint32_t slots = form.slots, size = insn.operand_size, rex = insn.rex
    cdef uint32_t bare = insn.encoding == ENC_LEGACY and not insn.prefixes & PFX_REX
    cdef uint32_t reg = (insn.modrm >> 3 & 7) | (rex & 4) << 1 | (insn.rex_high & 4) << 2
    cdef uint32_t rm = (insn.modrm & 7) | (rex & 1) << 3 | (insn.rex_high & 1) << 4
    cdef uint32_t extends = size == 4 and insn.bits == 64  # a 32-bit result clears the upper half
    cdef uint32_t is_memory = insn.attrs & INSN_HAS_MODRM and insn.modrm < 0xC0 and not form.rules & RULE_ANYMOD

    out.reads = implicit.reads
    out.writes = implicit.writes
    out.kills = implicit.kills | (implicit.kills_v if size >= 4 else 0)
    out.flags_read = flags.reads
    out.flags_written = flags.writes
    out.flags_undefined = flags.undefined

    if form.rules & RULE_OPCODE_REG:
        reg = (insn.opcode & 7) | (rex & 1) << 3 | (insn.rex_high & 1) << 4
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
    if form.idiom:
        idiom_effects(insn, form, not is_memory and reg == rm, out)
    out.kills &= ~out.reads


cdef const char *insn_mnemonic(const insn_t *insn) noexcept nogil:
    cdef uint32_t mnemonic = opcode_row_mnemonic[insn.row], more = MNEMONIC_MORE(mnemonic)
    cdef uint32_t size = insn.address_size if opcode_forms[insn.form].idiom == IDIOM_NAME else insn.operand_size
    # Three names are for 16, 32 and 64 bits, two for 32 and 64.
    cdef uint32_t pick = (size >= 8) + (more == 2 and size >= 4)
    return &opcode_mnemonics[opcode_mnemonic_at[MNEMONIC_FIRST(mnemonic) + (pick if more else 0)]]
