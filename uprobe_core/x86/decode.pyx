"""Decode one x86 instruction as the processor does. The contract stands in decode.pxd.

The bytes are parsed in the processor's order (prefixes, opcode, ModRM, SIB, displacement, immediate); everything that
depends on the opcode comes from the tables that opcodes.txt makes. Where a size or an attribute can be looked up there
is no branch: a mispredicted one costs as much as all the look-ups.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset, strlen

from uprobe_core.abi cimport *
from uprobe_core.status cimport *
from uprobe_core.x86.opcode_tables cimport *

cdef extern from *:
    int unlikely(int condition) nogil


# What the bytes before ModRM say; set by the parsers of the encodings.
cdef struct opcode_t:
    const uint8_t *at    # the opcode byte
    uint32_t entry       # of the opcode byte in its map, in opcode_tree
    uint32_t rex         # W R X B as 8 4 2 1
    uint32_t rex_high
    uint32_t pp
    uint32_t vvvv
    uint32_t length      # vector length: L'L
    uint32_t evex
    uint32_t bare        # no REX or the like: byte registers 4 to 7 are AH to BH
    uint32_t suffix_size # 3DNow!: the opcode byte follows the operands
    uint32_t apx         # what APX adds to the selector


cdef inline uint32_t find_entry(uint32_t root, uint32_t byte) noexcept nogil:
    """The entry of an opcode byte in a sparse map."""
    return opcode_tree[opcode_sixteens[root + (byte >> 4)] + (byte & 15)]


cdef inline const uint8_t *parse_prefixes(const uint8_t *cursor, const uint8_t *end, uint32_t mode_32, insn_t *out,
                                          opcode_t *opcode) noexcept nogil:
    """Past all prefixes, in any order and number. Of F2 and F3 the last counts; REX only right before the opcode."""
    cdef uint32_t prefixes = 0, segment = SEG_NONE, rex = 0, repeat = 0, byte_class, effect
    while cursor < end:
        byte_class = decode_byte_class[mode_32][cursor[0]]
        if byte_class - BYTE_PREFIX > <uint32_t>(BYTE_REX - BYTE_PREFIX):
            break
        rex = cursor[0] if byte_class == BYTE_REX else 0
        effect = decode_prefix[cursor[0]]
        prefixes |= effect & 0x3F
        repeat = PREFIX_PP(effect) if PREFIX_PP(effect) else repeat
        # ES, CS, SS and DS have no effect in 64-bit mode, not even after FS or GS.
        if PREFIX_SEGMENT(effect) >= <uint32_t>(SEG_ES if mode_32 else SEG_FS):
            segment = PREFIX_SEGMENT(effect)
        cursor += 1
    out.prefixes = <uint8_t>(prefixes | rex & PFX_REX)
    out.segment = <uint8_t>segment
    opcode.rex = rex & 15
    opcode.bare = rex == 0
    opcode.pp = repeat if repeat else prefixes & PFX_66
    return cursor


cdef inline uint32_t parse_vex(const uint8_t *cursor, uint32_t byte_class, insn_t *out,
                               opcode_t *opcode) noexcept nogil:
    """VEX (SDM vol. 2, 2.3.5) and XOP (APM vol. 3, 1.2.7). Returns the map's root, NO_ROOT where it is none."""
    cdef uint32_t first = cursor[1], last, map_number, root
    if byte_class == BYTE_VEX2:
        last = first & 0x7F
        map_number = MAP_0F
        opcode.rex = (first >> 5 & 4) ^ 4
        opcode.at = cursor + 2
    else:
        last = cursor[2]
        map_number = first & 0x1F
        opcode.rex = (first >> 5 ^ 7) | (last >> 4 & 8)
        opcode.at = cursor + 3
    out.encoding = ENC_XOP if byte_class == BYTE_XOP else ENC_VEX
    out.map = <uint8_t>map_number
    opcode.rex_high = opcode.evex = 0
    opcode.pp = last & 3
    opcode.vvvv = (last >> 3 & 15) ^ 15
    opcode.length = last >> 2 & 1
    root = OPCODE_ROOT(out.encoding, map_number) if map_number < 16 else NO_ROOT
    opcode.entry = find_entry(root, opcode.at[0])
    return root


cdef inline uint32_t parse_evex(const uint8_t *cursor, insn_t *out, opcode_t *opcode) noexcept nogil:
    """EVEX (SDM vol. 2, 2.7.1). The fixed bits have been checked. Returns the map's root, NO_ROOT where it is none."""
    cdef uint32_t p0 = cursor[1], p1 = cursor[2], p2 = cursor[3], root = OPCODE_ROOT(ENC_EVEX, p0 & 7)
    out.encoding = ENC_EVEX
    out.map = p0 & 7
    opcode.at = cursor + 4
    opcode.rex = (p0 >> 5 ^ 7) | (p1 >> 4 & 8)
    opcode.rex_high = (p0 >> 2 & 4) ^ 4
    opcode.pp = p1 & 3
    opcode.vvvv = ((p1 >> 3 & 15) ^ 15) | ((p2 << 1 & 16) ^ 16)
    opcode.length = p2 >> 5 & 3
    opcode.evex = p2 & 0x97
    opcode.entry = find_entry(root, opcode.at[0])
    return root


cdef inline uint32_t parse_evex_apx(const uint8_t *cursor, insn_t *out, opcode_t *opcode) noexcept nogil:
    """EVEX with APX: B4 and X4 stand where bits were fixed, map 4 exists (APX architecture specification, 3.1.2.3)."""
    cdef uint32_t root = parse_evex(cursor, out, opcode)
    opcode.rex_high |= (cursor[1] >> 3 & 1) | (cursor[2] >> 1 & 2 ^ 2)
    opcode.apx = <uint32_t>1 << SELECT_APX | (opcode.evex >> 4 & 1) << SELECT_ND | (opcode.evex >> 2 & 1) << SELECT_NF
    if out.map == MAP_4:
        root = OPCODE_ROOT(ENC_REX2, MAP_4)
        opcode.entry = find_entry(root, opcode.at[0])
    return root


cdef inline int parse_rex2(const uint8_t *cursor, insn_t *out, opcode_t *opcode) noexcept nogil:
    """REX2 (APX architecture specification, 3.1.2.1): a REX of five-bit registers and a choice of two maps."""
    cdef uint32_t payload = cursor[1], byte = cursor[2], refused
    out.encoding = ENC_REX2
    opcode.at = cursor + 2
    opcode.rex = payload & 15
    opcode.rex_high = payload >> 4 & 7
    opcode.bare = 0
    opcode.apx = <uint32_t>1 << SELECT_REX2
    out.map = <uint8_t>(payload >> 7)
    out.rex_high = <uint8_t>opcode.rex_high
    if out.map:
        opcode.entry = opcode_tree[ROOT_0F + byte]
        # Rows 3 and 8, the escapes; and there is no control or debug register from 16 on.
        refused = byte >> 4 == 3 or byte >> 4 == 8 or decode_second_byte[byte] or byte >> 2 == 8 and payload & 0x40
    else:
        opcode.entry = opcode_tree[ROOT_ONE(0) + byte]
        # Rows 4, 7, A and E, but for JMPABS; the other prefixes, which must stand before REX2.
        refused = 0x4490 >> (byte >> 4) & 1 and byte != 0xA1 or decode_byte_class[0][byte] != BYTE_OPCODE and byte != 0x8F
    if byte == 0xA1 and not out.map and (payload & 8 or out.prefixes & (
            PFX_66 | PFX_67 | PFX_F2 | PFX_F3 | PFX_LOCK)):
        refused = 1
    return STATUS_INVALID if refused or out.prefixes & PFX_REX else STATUS_OK


cdef inline void parse_3dnow(const uint8_t *modrm_at, uint32_t mode_32, insn_t *out, opcode_t *opcode) noexcept nogil:
    """3DNow! (APM vol. 3, 1.2.6): the opcode byte follows ModRM, SIB and displacement."""
    cdef uint32_t modrm = modrm_at[0]
    cdef uint32_t fields = decode_modrm_16(modrm) if mode_32 and out.prefixes & PFX_67 else decode_modrm[modrm]
    cdef uint32_t size = MODRM_DISP(fields)
    if fields & MODRM_SIB:
        size = 5 if modrm < 0x40 and (modrm_at[1] & 7) == 5 else size + 1
    out.encoding = ENC_3DNOW
    out.map = MAP_3DNOW
    opcode.at = modrm_at + 1 + size
    opcode.entry = find_entry(OPCODE_ROOT(ENC_3DNOW, MAP_3DNOW), opcode.at[0])
    opcode.suffix_size = 1


cdef inline int parse_opcode(const uint8_t *code, uint32_t mode_32, uint32_t apx, insn_t *out,
                             opcode_t *opcode) noexcept nogil:
    """Everything before ModRM. Where that is no opcode: the status, with out.length the bytes that decided."""
    cdef const uint8_t *cursor
    cdef uint32_t byte_class, byte, root
    memset(opcode, 0, sizeof(opcode_t))
    opcode.bare = 1
    cursor = parse_prefixes(code, code + INSN_MAX, mode_32, out, opcode)
    if unlikely(cursor == code + INSN_MAX):
        out.length = INSN_MAX + 1
        return STATUS_TOO_LONG
    out.prefix_len = <uint8_t>(cursor - code)
    byte_class = decode_byte_class[mode_32][cursor[0]]
    if byte_class == BYTE_ESCAPE:
        byte = cursor[1]
        if unlikely(byte == 0x0F):
            parse_3dnow(cursor + 2, mode_32, out, opcode)
            return STATUS_OK
        out.map = MAP_0F38 if byte == 0x38 else MAP_0F3A if byte == 0x3A else MAP_0F
        opcode.at = cursor + 1 + (out.map != MAP_0F)
        if out.map == MAP_0F:
            opcode.entry = opcode_tree[ROOT_0F + byte]
        else:
            opcode.entry = find_entry(OPCODE_ROOT(ENC_LEGACY, out.map), opcode.at[0])
        return STATUS_OK
    if byte_class == BYTE_REX2 and apx:
        out.prefix_len += 2
        out.length = <uint8_t>(out.prefix_len + 1)
        return parse_rex2(cursor, out, opcode)
    # In 32-bit mode c4, c5 and 62 are LES, LDS and BOUND where ModRM names memory; 8f is XOP from map 8 on.
    if byte_class == BYTE_OPCODE or byte_class == BYTE_REX2 or byte_class == BYTE_XOP and (cursor[1] & 0x1F) < 8 or (
            mode_32 and byte_class != BYTE_XOP and cursor[1] < 0xC0):
        opcode.at = cursor
        opcode.entry = opcode_tree[ROOT_ONE(mode_32) + cursor[0]]
        return STATUS_OK
    out.length = out.prefix_len + 2
    if unlikely(out.prefixes & (PFX_66 | PFX_F2 | PFX_F3 | PFX_LOCK | PFX_REX)):
        return STATUS_PREFIX
    if byte_class == BYTE_EVEX:
        if apx:
            root = parse_evex_apx(cursor, out, opcode)
        elif unlikely(cursor[1] & 8 or not cursor[2] & 4):
            out.length += 1
            return STATUS_INVALID
        else:
            root = parse_evex(cursor, out, opcode)
    else:
        root = parse_vex(cursor, byte_class, out, opcode)
    out.length = <uint8_t>(opcode.at - code)
    if unlikely(root == NO_ROOT):
        return STATUS_INVALID
    if mode_32:  # there are eight registers: the high bits of their numbers are ignored
        opcode.rex &= 8
        opcode.rex_high = 0
    opcode.bare = 0
    out.rex_high = <uint8_t>opcode.rex_high
    out.evex = <uint8_t>opcode.evex
    out.vector_length = <uint8_t>opcode.length
    return STATUS_OK


cdef int check_registers(const opcode_form_t *form, const opcode_t *opcode, const insn_t *insn, uint32_t is_register,
                         uint32_t amd) noexcept nogil:
    """What the rarer forms ask of their registers: vector-indexed memory, tiles, masks."""
    cdef uint32_t rules = form.rules, vvvv = insn.vvvv
    cdef uint32_t reg = (insn.modrm >> 3 & 7) | (opcode.rex & 4) << 1 | (opcode.rex_high & 4) << 2
    cdef uint32_t rm = (insn.modrm & 7) | (opcode.rex & 1) << 3 | (opcode.rex & 2) << 3
    cdef uint32_t index = (insn.sib >> 3 & 7) | (opcode.rex & 2) << 2 | (opcode.vvvv & 16)
    if rules & (RULE_VSIB | RULE_SIB) and not insn.has_sib:
        return 0
    if rules & RULE_UNIQUE:
        if rules & RULE_VSIB:
            if reg == index or rules & RULE_VVVV and (vvvv == reg or vvvv == index):
                return 0
        elif reg == (rm & 15) or reg == vvvv or (rm & 15) == vvvv:
            return 0
    if rules & RULE_UNIQUE_DEST and (rules & RULE_VVVV and reg == vvvv or is_register and reg == rm):
        return 0
    if rules & RULE_TILE and ((reg | vvvv) & 24 or is_register and rm & 8):
        return 0
    if form.slots >> SLOT_VVVV & SLOT_MASK and vvvv & 8:
        return 0
    if form.slots >> SLOT_REG & SLOT_MASK:
        if opcode.rex_high & 4 or insn.encoding == ENC_EVEX and opcode.rex & 4:
            return 0
        # VEX.R with a mask register: AMD's first processors with EVEX ignore it.
        if opcode.rex & 4 and not amd:
            return 0
    return 1


cdef inline int check_apx(const opcode_form_t *form, const opcode_t *opcode) noexcept nogil:
    """What has been promoted: bits of the last byte that must be clear; ND, NF and L are the table's."""
    if FORM_APX(form.memory) == APX_COND:
        return not opcode.evex & 0x80
    return not opcode.evex & (0x83 if FORM_APX(form.memory) == APX_LEGACY else 0x93)


cdef inline int check_evex(const opcode_form_t *form, const opcode_t *opcode, uint32_t is_register,
                           uint32_t amd) noexcept nogil:
    """Masking, zeroing, broadcast, and register numbers that do not exist."""
    cdef uint32_t rules = form.rules, evex = opcode.evex
    if unlikely(opcode.apx and is_register and opcode.rex_high & 2):
        return 0  # X4 without an index
    if unlikely(FORM_APX(form.memory)):
        return check_apx(form, opcode)
    if evex & 7:
        if not rules & RULE_MASK:
            return 0
    elif rules & RULE_MASK_REQUIRED:
        return 0
    if evex & 0x80 and (not rules & RULE_ZEROING or not evex & 7 or not is_register and form.memory & MEMORY_WRITE):
        return 0
    if evex & 0x10:
        # Without memory and without rounding AMD's first processors with EVEX ignore b.
        if is_register:
            if not EVEX_ROUNDING(form.evex) and not amd:
                return 0
        elif not EVEX_BROADCAST(form.evex):
            return 0
    # Only APX has general registers from 16 on.
    return not (form.slots >> SLOT_REG & SLOT_GPR and opcode.rex_high & 4 and not opcode.apx)


cdef inline uint32_t evex_disp_scale(const opcode_form_t *form, const opcode_t *opcode) noexcept nogil:
    """log2 of what an EVEX disp8 is multiplied by (SDM vol. 2, 2.7.5)."""
    cdef uint32_t scale = EVEX_SCALE(form.evex)
    if opcode.evex & 0x10 and EVEX_BROADCAST(form.evex):
        return EVEX_BROADCAST(form.evex)
    if scale == 7:
        return 2 + (opcode.rex >> 3)
    return scale + (opcode.length if EVEX_BY_LENGTH(form.evex) else 0)


cdef inline int check_operands(const opcode_form_t *form, const opcode_t *opcode, uint32_t is_register,
                               uint32_t mode_32, uint32_t amd, insn_t *out) noexcept nogil:
    """What VEX, EVEX and XOP ask of operands; scales an EVEX displacement, sets vvvv."""
    cdef uint32_t rules = form.rules, rm
    if out.encoding == ENC_EVEX:
        if not check_evex(form, opcode, is_register, amd) or mode_32 and opcode.vvvv & 16:
            return 0
        if out.disp_size == 1:
            out.disp = out.disp << evex_disp_scale(form, opcode)
    if unlikely(FORM_APX(form.memory) and form.attrs & INSN_STACK):  # PUSH2, POP2
        rm = (out.modrm & 7) | (opcode.rex & 1) << 3 | (opcode.rex_high & 1) << 4
        if rm == 4 or opcode.vvvv == 4 or form.slots >> SLOT_VVVV & SLOT_WRITE and rm == opcode.vvvv:
            return 0
    if rules & RULE_VVVV:
        out.vvvv = <uint8_t>(opcode.vvvv & (7 if mode_32 else 31))
        if out.vvvv == 4 and form.slots >> SLOT_VVVV & SLOT_GPR:
            out.attrs |= INSN_STACK_POINTER
    elif opcode.vvvv & (15 if rules & RULE_VSIB else 31) and FORM_APX(form.memory) != APX_COND:
        return 0
    if form.size == SIZE_L:
        out.operand_size = <uint8_t>(out.operand_size << out.vector_length)
    if unlikely(rules & (RULE_VSIB | RULE_SIB | RULE_UNIQUE | RULE_UNIQUE_DEST | RULE_TILE) or form.slots & (
            SLOT_MASK << SLOT_REG | SLOT_MASK << SLOT_VVVV)):
        return check_registers(form, opcode, out, is_register, amd)
    return 1


cdef inline int check_prefixes(const opcode_form_t *form, uint32_t is_memory, uint32_t mode_32, uint32_t amd,
                               insn_t *out) noexcept nogil:
    """What LOCK, F2, F3 and 66 mean to a legacy instruction."""
    cdef uint32_t rules = form.rules
    if not rules & RULE_MANDATORY:
        out.pp = 0
    if unlikely(out.prefixes & PFX_LOCK):
        if amd and rules & RULE_LOCK_AMD and (is_memory or rules & RULE_ANYMOD):
            out.attrs |= INSN_VENDOR
        elif not rules & RULE_LOCK or not is_memory:
            return STATUS_LOCK
        out.attrs |= INSN_LOCKED
    if rules & RULE_REP and out.prefixes & (PFX_F2 | PFX_F3):
        out.attrs |= INSN_REPEATED
        out.step = STEP_REPEAT
    if form.size == SIZE_NEAR and out.prefixes & PFX_66 and not mode_32 and not out.rex & 8:
        out.attrs |= INSN_VENDOR
    return STATUS_OK


cdef inline int refuse(int status, uint32_t length, insn_t *out) noexcept nogil:
    """The status of bytes of which `length` decided, or are the instruction; more than 15 are #GP before all else."""
    if length > INSN_MAX:
        out.length = INSN_MAX
        return STATUS_TOO_LONG
    out.length = <uint8_t>length
    return status


cdef int decode_window(const uint8_t *code, size_t size, uint64_t ip, uint32_t options, insn_t *out) noexcept nogil:
    """insn_decode near the end of the bytes: zeros stand for what is missing, and what looked at them failed."""
    cdef uint8_t window[DECODE_WINDOW]
    cdef int status
    if size == 0:
        memset(out, 0, sizeof(insn_t))
        return STATUS_EMPTY
    memset(window, 0, DECODE_WINDOW)
    memcpy(window, code, size)
    status = insn_decode(window, DECODE_WINDOW, ip, options, out)
    if out.length > size or status == STATUS_TOO_LONG and size < INSN_MAX:
        out.length = <uint8_t>size
        return STATUS_TRUNCATED
    return status


cdef inline uint32_t find_leaf(uint32_t entry, uint32_t selector, uint32_t *seen) noexcept nogil:
    """From the entry of an opcode byte to its leaf; `seen` collects the bits of the nodes on the way."""
    while entry & ENTRY_NODE:
        seen[0] |= entry
        entry = opcode_tree[NODE_OFFSET(entry) + (selector >> NODE_SHIFT(entry) & NODE_MASK(entry))]
    return entry


cdef inline int check_leaf(uint32_t entry, uint32_t selector, uint32_t *modrm, insn_t *out) noexcept nogil:
    """An ENTRY_CHECKED leaf: whether there is such an instruction."""
    cdef const opcode_form_t *form = &opcode_forms[LEAF_FORM(entry)]
    if form.rules & RULE_ANYMOD:
        modrm[0] |= 0xC0
    if form.rules & RULE_VENDOR_W and selector & 1 << SELECT_W:
        out.attrs = INSN_VENDOR
    return opcode_allow[form.allow] >> ALLOW_KEY(selector) & 1


cdef inline uint32_t select_rounding(uint32_t selector, insn_t *out) noexcept nogil:
    """EVEX.b without memory: L'L is the rounding mode, or ignored; the vectors have 512 bits (SDM vol. 2, 2.7.8)."""
    out.vector_length = 2
    return selector & ~(<uint32_t>3 << SELECT_L) | 2 << SELECT_L


cdef int decode_vector(const uint8_t *code, uint32_t byte_class, uint64_t ip, uint32_t options,
                       insn_t *out) noexcept nogil:
    """insn_decode for VEX, EVEX and XOP in 64-bit mode with no other prefix and without APX; `out` is zeroed."""
    cdef uint32_t entry, selector, modrm, root, seen = 0
    cdef const uint8_t *cursor
    cdef const opcode_form_t *form
    cdef opcode_t opcode
    opcode.apx = 0
    if byte_class == BYTE_EVEX:
        if unlikely(code[1] & 8 or not code[2] & 4):
            return refuse(STATUS_INVALID, 3, out)
        root = parse_evex(code, out, &opcode)
    else:
        root = parse_vex(code, byte_class, out, &opcode)
    cursor = opcode.at + 1
    if unlikely(root == NO_ROOT):
        return refuse(STATUS_INVALID, <uint32_t>(opcode.at - code), out)
    out.bits = 64
    out.rex = <uint8_t>opcode.rex
    out.rex_high = <uint8_t>opcode.rex_high
    out.evex = <uint8_t>opcode.evex
    out.vector_length = <uint8_t>opcode.length
    out.pp = <uint8_t>opcode.pp
    out.opcode = opcode.at[0]
    out.opcode_off = <uint8_t>(opcode.at - code)
    modrm = cursor[0]
    selector = (
        SELECT_MODRM(modrm) | opcode.pp << SELECT_PP | opcode.length << SELECT_L | opcode.rex << SELECT_REXB
        | (options & DECODE_INTEL) << (SELECT_INTEL - 3)
    )
    entry = find_leaf(opcode.entry, selector, &seen)
    if entry & ENTRY_CHECKED:
        form = &opcode_forms[LEAF_FORM(entry)]
        if opcode.evex & 0x10 and modrm >= 0xC0 and EVEX_ROUNDING(form.evex):
            selector = select_rounding(selector, out)
        if unlikely(not check_leaf(entry, selector, &modrm, out)):
            return refuse(STATUS_INVALID, <uint32_t>(cursor - code) + ENTRY_HAS_MODRM(seen | entry), out)
    decode_operands(code, cursor, entry, modrm, 0, opcode.rex, 0, options & DECODE_INTEL | opcode.rex >> 2 & 2, 8,
                    MODRM_RELATIVE, ip, out)
    form = &opcode_forms[LEAF_FORM(entry)]
    if unlikely(not check_operands(form, &opcode, modrm >= 0xC0, 0, not options & DECODE_INTEL, out)):
        return refuse(STATUS_INVALID, out.length, out)
    return STATUS_OK


cdef int decode_uncommon(const uint8_t *code, uint64_t ip, uint32_t options, insn_t *out) noexcept nogil:
    """insn_decode for whatever comes: any prefixes, any map, either mode. `out` is zeroed."""
    cdef uint32_t mode_32 = options >> 1 & 1, intel = options >> 3 & 1, p67, p66  # DECODE_32, DECODE_INTEL
    cdef uint32_t entry, selector, modrm, seen = 0, context, address_size, is_memory
    cdef const uint8_t *cursor
    cdef const opcode_form_t *form
    cdef opcode_t opcode
    cdef int status

    status = parse_opcode(code, mode_32, options & DECODE_APX if not mode_32 else 0, out, &opcode)
    if unlikely(status):
        return refuse(status, out.length, out)
    out.bits = 32 if mode_32 else 64
    out.rex = <uint8_t>opcode.rex
    out.pp = <uint8_t>opcode.pp
    out.opcode = opcode.at[0]
    out.opcode_off = <uint8_t>(opcode.at - code)
    p67 = out.prefixes >> 1 & 1
    address_size = (4 if mode_32 else 8) >> p67
    p66 = opcode.pp & 1 if out.encoding == ENC_EVEX and out.map == MAP_4 else out.prefixes & PFX_66
    context = CONTEXT(<uint32_t>MODE_32_BITS if mode_32 else intel, p67, opcode.rex >> 3, p66)

    cursor = opcode.at + 1
    if unlikely(opcode.suffix_size):
        cursor = code + out.prefix_len + 2
    modrm = cursor[0]
    selector = (
        SELECT_MODRM(modrm) | opcode.pp << SELECT_PP | opcode.length << SELECT_L | opcode.rex << SELECT_REXB
        | intel << SELECT_INTEL | mode_32 << SELECT_32 | (out.prefixes & PFX_66) << SELECT_66 | opcode.apx
    )
    if out.encoding == ENC_REX2:
        selector |= (opcode.rex_high & 1) << SELECT_REXB  # B4 makes NOP an XCHG too
    entry = find_leaf(opcode.entry, selector, &seen)
    form = &opcode_forms[LEAF_FORM(entry)]
    if entry & ENTRY_CHECKED:
        if opcode.evex & 0x10 and modrm >= 0xC0 and EVEX_ROUNDING(form.evex):
            selector = select_rounding(selector, out)
        if unlikely(not check_leaf(entry, selector, &modrm, out)):
            if opcode.suffix_size:
                return refuse(STATUS_INVALID, out.opcode_off + 1, out)
            return refuse(STATUS_INVALID, <uint32_t>(cursor - code) + ENTRY_HAS_MODRM(seen | entry), out)
    decode_operands(code, cursor, entry, modrm, opcode.at[0], opcode.rex | opcode.rex_high, opcode.bare, context,
                    address_size, 0 if mode_32 else MODRM_RELATIVE, ip, out)

    is_memory = modrm < 0xC0 and entry & ENTRY_MODRM
    if ENC_VEX <= out.encoding <= ENC_XOP:
        if not check_operands(form, &opcode, not is_memory, mode_32, intel ^ 1, out):
            status = STATUS_INVALID
    else:
        status = check_prefixes(form, is_memory, mode_32, intel ^ 1, out)
    if unlikely(opcode.suffix_size):
        out.length += 1
        out.target += 1 if out.attrs & INSN_RIP_RELATIVE else 0
    if unlikely(form.rules & RULE_FETCHES_TWO and not intel and out.length + 2 > INSN_MAX):
        return refuse(STATUS_TOO_LONG, INSN_MAX + 1, out)
    # 66 truncates the target of a near branch, 67 an address.
    out.target &= decode_address_mask[address_size if out.attrs & INSN_RIP_RELATIVE else out.operand_size & 15]
    return refuse(status, out.length, out)


cdef int insn_decode(const uint8_t *code, size_t size, uint64_t ip, uint32_t options, insn_t *out) noexcept nogil:
    cdef uint32_t byte, byte_class, has_rex, rex, entry, selector = 0, modrm, seen = 0, effect = 0
    cdef const uint8_t *cursor = code
    cdef int status

    if unlikely(size < DECODE_WINDOW):
        return decode_window(code, size, ip, options, out)
    memset(out, 0, sizeof(insn_t))
    out.bits = 64

    # The common case, which nothing may slow down: 64-bit mode, at most one legacy prefix, perhaps a REX.
    byte_class = decode_byte_class[0][code[0]]
    if byte_class == BYTE_PREFIX:
        effect = decode_prefix[code[0]]
        cursor += 1
        out.prefixes = effect & 0x3F
        out.segment = <uint8_t>(PREFIX_SEGMENT(effect) if PREFIX_SEGMENT(effect) >= SEG_FS else SEG_NONE)
        out.pp = <uint8_t>(PREFIX_PP(effect) | effect & PFX_66)
        selector = <uint32_t>out.pp << SELECT_PP
    byte = cursor[0]
    has_rex = (byte & 0xF0) == 0x40
    rex = byte & -has_rex
    byte ^= (byte ^ cursor[1]) & -has_rex
    cursor += has_rex
    out.prefixes |= rex & PFX_REX
    rex &= 15
    out.rex = <uint8_t>rex
    out.prefix_len = <uint8_t>(cursor - code)
    entry = opcode_tree[ROOT_ONE(0) + byte]
    byte_class = decode_byte_class[0][byte] | (options & DECODE_32) << 4 | (effect & PFX_67) << 4
    if byte_class == BYTE_ESCAPE:
        cursor += 1
        byte = cursor[0]
        byte_class = decode_second_byte[byte]
        entry = opcode_tree[ROOT_0F + byte]
        out.map = MAP_0F
    if byte_class != BYTE_OPCODE:
        memset(out, 0, sizeof(insn_t))
        if BYTE_VEX2 <= byte_class <= BYTE_XOP and cursor == code and (byte_class != BYTE_XOP or code[1] & 0x18) and (
                byte_class != BYTE_EVEX or not options & DECODE_APX):
            return decode_vector(code, byte_class, ip, options, out)
        return decode_uncommon(code, ip, options, out)
    out.opcode = <uint8_t>byte
    out.opcode_off = <uint8_t>(cursor - code)
    cursor += 1
    modrm = cursor[0]
    if entry & (ENTRY_NODE | ENTRY_CHECKED):
        selector |= SELECT_MODRM(modrm) | rex << SELECT_REXB | (options & DECODE_INTEL) << (SELECT_INTEL - 3)
        entry = find_leaf(entry, selector, &seen)
        if entry & ENTRY_CHECKED and unlikely(not check_leaf(entry, selector, &modrm, out)):
            return refuse(STATUS_INVALID, <uint32_t>(cursor - code) + ENTRY_HAS_MODRM(seen | entry), out)
    decode_operands(code, cursor, entry, modrm, byte, rex, has_rex ^ 1,
                    options & DECODE_INTEL | rex >> 2 & 2 | effect & PFX_66, 8, MODRM_RELATIVE, ip, out)
    if effect:
        status = check_prefixes(&opcode_forms[LEAF_FORM(entry)], modrm < 0xC0 and entry & ENTRY_MODRM, 0,
                                not options & DECODE_INTEL, out)
        if unlikely(status):
            return status
        if effect & PFX_66 and out.operand_size == 2:  # 66 truncates the target of a near branch
            out.target &= 0xFFFF if not out.attrs & INSN_RIP_RELATIVE else ~<uint64_t>0
    return STATUS_OK


cdef const char *insn_mnemonic(const insn_t *insn) noexcept nogil:
    cdef uint32_t mnemonic = opcode_row_mnemonic[insn.row], more = MNEMONIC_MORE(mnemonic)
    cdef uint32_t size = insn.address_size if opcode_effects[insn.form].idiom == IDIOM_NAME else insn.operand_size
    # Three names are for 16, 32 and 64 bits, two for 32 and 64.
    cdef uint32_t pick = (size >= 8) + (more == 2 and size >= 4) if more else 0
    cdef const char *name = &opcode_mnemonics[MNEMONIC_FIRST(mnemonic)]
    while pick:
        name += strlen(name) + 1
        pick -= 1
    return name
