"""What an instruction does to registers and memory, worked out without running it."""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from uprobe_core.abi cimport (
    EFLAGS_AC,
    EFLAGS_CF,
    EFLAGS_OF,
    EFLAGS_PF,
    EFLAGS_RF,
    EFLAGS_SF,
    EFLAGS_TF,
    EFLAGS_ZF,
    ENC_LEGACY,
    FLOW_CALL,
    FLOW_CALL_INDIRECT,
    FLOW_JCC,
    FLOW_JMP,
    FLOW_JMP_INDIRECT,
    FLOW_LOOP,
    FLOW_NEXT,
    FLOW_RET,
    MAP_ONE,
    PFX_66,
    PFX_F2,
    PFX_F3,
    PFX_LOCK,
    PLAN_ONE_STOP,
    WAY_CALL,
    WAY_CALL_INDIRECT,
    WAY_JCC,
    WAY_JMP,
    WAY_JMP_INDIRECT,
    WAY_LEA,
    WAY_LEAVE,
    WAY_LOOP,
    WAY_MOV,
    WAY_POP,
    WAY_POPF,
    WAY_PUSH,
    WAY_PUSHF,
    WAY_RET,
    insn_t,
    regs_t,
)
from uprobe_core.x86.branch cimport branch_target
from uprobe_core.x86.fixup cimport FIXUP_DONE, FIXUP_FAULTS, FIXUP_IP, FIXUP_READ
from uprobe_core.x86.registers cimport REG_RSP, regs_get, regs_set

cdef enum:
    WAY_NONE = -1
    PREFIX_66 = 0x66
    PREFIX_FS = 0x64
    PREFIX_GS = 0x65
    PREFIX_67 = 0x67
    OPCODE_PUSH = 0x50
    OPCODE_POP = 0x58
    OPCODE_PUSH_IMM32 = 0x68
    OPCODE_PUSH_IMM8 = 0x6A
    OPCODE_MOV_STORE = 0x89
    OPCODE_MOV_LOAD = 0x8B
    OPCODE_LEA = 0x8D
    OPCODE_PUSHF = 0x9C
    OPCODE_POPF = 0x9D
    OPCODE_MOV_IMMEDIATE = 0xB8
    OPCODE_RET_POP = 0xC2
    OPCODE_MOV_GROUP11 = 0xC7
    OPCODE_LEAVE = 0xC9
    OPCODE_LOOPE = 0xE1
    OPCODE_LOOP = 0xE2
    OPCODE_JRCXZ = 0xE3
    OPCODE_GROUP5 = 0xFF
    # What popf changes in user mode: AC NT OF DF TF SF ZF AF PF CF (SDM vol. 2, POPF; ID is out of ptrace's reach).
    POPF_MASK = 0x44DD5


cdef inline uint64_t next_ip(const place_t *place) noexcept nogil:
    return place.ip + place.length


cdef inline uint8_t rex_of(const place_t *place) noexcept nogil:
    """The REX prefix of a one-byte opcode, or 0: only the byte before the opcode counts, and no other prefix is 4x."""
    cdef uint8_t before = place.original[place.operand - 1] if place.operand else 0
    return before if before & 0xF0 == 0x40 else 0


cdef bint prefix_present(const place_t *place, uint8_t prefix) noexcept nogil:
    cdef unsigned int i
    for i in range(place.operand):
        if place.original[i] == prefix:
            return True
    return False


cdef uint64_t segment_base(const place_t *place, const regs_t *regs) noexcept nogil:
    """The last FS or GS prefix wins; the others have no base in 64-bit mode."""
    cdef uint64_t base = 0
    cdef unsigned int i
    for i in range(place.operand):
        if place.original[i] == PREFIX_FS:
            base = regs.fs_base
        elif place.original[i] == PREFIX_GS:
            base = regs.gs_base
    return base


cdef uint64_t operand_offset(const place_t *place, const regs_t *regs) noexcept nogil:
    """The memory operand's address within its segment, of an instruction without an immediate (SDM vol. 2, 2.1.5)."""
    cdef uint8_t rex = rex_of(place)
    cdef const uint8_t *modrm = place.original + place.operand + 1
    cdef const uint8_t *rest = modrm + 1
    cdef unsigned int mod = modrm[0] >> 6
    cdef unsigned int base = modrm[0] & 7
    cdef unsigned int index = REG_RSP  # none
    cdef uint64_t vaddr = 0
    cdef int32_t disp = 0
    if base == 4:
        index = (rest[0] >> 3 & 7) | (rex & 2) << 2
        if index != REG_RSP:
            vaddr = regs_get(regs, index) << (rest[0] >> 6)
        base = rest[0] & 7
        rest += 1
        if mod != 0 or base != 5:
            vaddr += regs_get(regs, base | (rex & 1) << 3)
    elif mod == 0 and base == 5:
        vaddr = next_ip(place)
    else:
        vaddr = regs_get(regs, base | (rex & 1) << 3)
    if mod == 1:
        disp = <int8_t>rest[0]
    elif mod == 2 or (mod == 0 and base == 5):
        memcpy(&disp, rest, 4)
    vaddr += <uint64_t><int64_t>disp
    if prefix_present(place, PREFIX_67):
        vaddr = <uint32_t>vaddr
    return vaddr


cdef inline uint64_t operand_vaddr(const place_t *place, const regs_t *regs) noexcept nogil:
    return operand_offset(place, regs) + segment_base(place, regs)


cdef uint64_t emulate_ip(const place_t *place) noexcept nogil:
    if plan_is_boost(place.kind):
        return place.slot_ip
    if place.kind == (PLAN_ONE_STOP | WAY_JMP):
        return branch_target(place)
    return next_ip(place)


cdef bint condition_holds(unsigned int condition, uint64_t eflags) noexcept nogil:
    """The condition of jcc by its four bits (SDM vol. 1, appendix B)."""
    cdef bint carry = eflags & EFLAGS_CF != 0
    cdef bint zero = eflags & EFLAGS_ZF != 0
    cdef bint sign = eflags & EFLAGS_SF != 0
    cdef bint overflow = eflags & EFLAGS_OF != 0
    cdef bint holds = False
    if condition >> 1 == 0:
        holds = overflow
    elif condition >> 1 == 1:
        holds = carry
    elif condition >> 1 == 2:
        holds = zero
    elif condition >> 1 == 3:
        holds = carry or zero
    elif condition >> 1 == 4:
        holds = sign
    elif condition >> 1 == 5:
        holds = eflags & EFLAGS_PF != 0
    elif condition >> 1 == 6:
        holds = sign != overflow
    else:
        holds = zero or sign != overflow
    return not holds if condition & 1 else holds


cdef int read_first(uint64_t vaddr, uint8_t size, access_t *access) noexcept nogil:
    access.vaddr = vaddr
    access.size = size
    access.write = 0
    return FIXUP_READ


cdef void write_last(uint64_t vaddr, uint64_t value, uint8_t size, access_t *access) noexcept nogil:
    access.vaddr = vaddr
    access.value = value
    access.size = size
    access.write = 1


cdef void push(regs_t *regs, uint64_t value, access_t *access) noexcept nogil:
    regs.rsp -= 8
    write_last(regs.rsp, value, 8, access)


cdef void register_write(regs_t *regs, unsigned int number, uint64_t value, uint8_t size) noexcept nogil:
    """32 bits clear the upper half, 16 keep the rest (SDM vol. 1, 3.4.1.1)."""
    if size == 4:
        value = <uint32_t>value
    elif size == 2:
        value = (regs_get(regs, number) & ~<uint64_t>0xFFFF) | <uint16_t>value
    regs_set(regs, number, value)


cdef inline uint8_t operand_size(const place_t *place) noexcept nogil:
    """Of a mov or lea with no byte operand."""
    if rex_of(place) & 8:
        return 8
    return 2 if prefix_present(place, PREFIX_66) else 4


cdef inline unsigned int modrm_reg(const place_t *place) noexcept nogil:
    return (place.original[place.operand + 1] >> 3 & 7) | (rex_of(place) & 4) << 1


cdef inline unsigned int modrm_rm(const place_t *place) noexcept nogil:
    return (place.original[place.operand + 1] & 7) | (rex_of(place) & 1) << 3


cdef inline bint operand_in_memory(const place_t *place) noexcept nogil:
    return place.original[place.operand + 1] < 0xC0


cdef inline unsigned int opcode_register(const place_t *place) noexcept nogil:
    return (place.original[place.operand] & 7) | (rex_of(place) & 1) << 3


cdef uint64_t immediate(const place_t *place, unsigned int size) noexcept nogil:
    """The last `size` bytes, sign-extended."""
    cdef const uint8_t *field = place.original + place.length - size
    cdef int64_t value = 0
    memcpy(&value, field, size)
    return <uint64_t>(value << (64 - 8 * size) >> (64 - 8 * size))


cdef inline bint is_user_vaddr(uint64_t vaddr) noexcept nogil:
    """Where a branch can lead. Elsewhere vendors differ: the fault is that of the branch, or of its target."""
    return vaddr >> 47 == 0


cdef int emulate_jcc(const place_t *place, regs_t *regs) noexcept nogil:
    cdef bint taken = condition_holds(place.original[place.operand] & 15, regs.eflags)
    regs.rip = branch_target(place) if taken else next_ip(place)
    return FIXUP_IP


cdef int emulate_loop(const place_t *place, regs_t *regs) noexcept nogil:
    cdef uint8_t opcode = place.original[place.operand]
    cdef bint narrow = prefix_present(place, PREFIX_67)
    cdef uint64_t count = <uint32_t>regs.rcx if narrow else regs.rcx
    cdef bint taken = count == 0
    if opcode != OPCODE_JRCXZ:
        count = <uint32_t>(count - 1) if narrow else count - 1
        regs.rcx = count
        taken = count != 0 and (opcode == OPCODE_LOOP or (regs.eflags & EFLAGS_ZF != 0) == (opcode == OPCODE_LOOPE))
    regs.rip = branch_target(place) if taken else next_ip(place)
    return FIXUP_DONE


cdef int emulate_indirect(const place_t *place, regs_t *regs, bint is_call, access_t *access) noexcept nogil:
    cdef uint64_t target
    cdef uint64_t vaddr
    if not operand_in_memory(place):
        target = regs_get(regs, modrm_rm(place))
    else:
        vaddr = operand_vaddr(place, regs)
        # The slot pushes before it reads the operand, so the two must not meet.
        if is_call and place.slot_ip and vaddr - (regs.rsp - 8) + 7 > 14:
            regs.rip = place.slot_ip
            return FIXUP_IP
        if not access.size:
            return read_first(vaddr, 8, access)
        target = access.value
    access.size = 0
    if not is_user_vaddr(target):
        return FIXUP_FAULTS
    if is_call:
        push(regs, next_ip(place), access)
    regs.rip = target
    return FIXUP_DONE


cdef int emulate_ret(const place_t *place, regs_t *regs, access_t *access) noexcept nogil:
    if not access.size:
        return read_first(regs.rsp, 8, access)
    access.size = 0
    if not is_user_vaddr(access.value):
        return FIXUP_FAULTS
    regs.rsp += 8
    if place.original[place.operand] == OPCODE_RET_POP:
        regs.rsp += <uint16_t>immediate(place, 2)
    regs.rip = access.value
    return FIXUP_DONE


cdef int emulate_push(const place_t *place, regs_t *regs, access_t *access) noexcept nogil:
    cdef uint8_t opcode = place.original[place.operand]
    cdef uint64_t value
    if opcode == OPCODE_GROUP5 and not operand_in_memory(place):
        value = regs_get(regs, modrm_rm(place))
    elif opcode == OPCODE_GROUP5:
        if not access.size:
            return read_first(operand_vaddr(place, regs), 8, access)
        value = access.value
    elif opcode == OPCODE_PUSH_IMM8:
        value = immediate(place, 1)
    elif opcode == OPCODE_PUSH_IMM32:
        value = immediate(place, 4)
    else:
        value = regs_get(regs, opcode_register(place))
    push(regs, value, access)
    regs.rip = next_ip(place)
    return FIXUP_DONE


cdef int emulate_pop(const place_t *place, regs_t *regs, access_t *access) noexcept nogil:
    if not access.size:
        return read_first(regs.rsp, 8, access)
    access.size = 0
    regs.rsp += 8
    regs_set(regs, opcode_register(place), access.value)
    regs.rip = next_ip(place)
    return FIXUP_DONE


cdef int emulate_lea(const place_t *place, regs_t *regs) noexcept nogil:
    register_write(regs, modrm_reg(place), operand_offset(place, regs), operand_size(place))
    regs.rip = next_ip(place)
    return FIXUP_DONE


cdef int emulate_mov(const place_t *place, regs_t *regs, access_t *access) noexcept nogil:
    cdef uint8_t opcode = place.original[place.operand]
    cdef uint8_t size = operand_size(place)
    if opcode == OPCODE_MOV_LOAD:
        if not operand_in_memory(place):
            register_write(regs, modrm_reg(place), regs_get(regs, modrm_rm(place)), size)
        elif not access.size:
            return read_first(operand_vaddr(place, regs), size, access)
        else:
            access.size = 0
            register_write(regs, modrm_reg(place), access.value, size)
    elif opcode == OPCODE_MOV_STORE:
        if operand_in_memory(place):
            write_last(operand_vaddr(place, regs), regs_get(regs, modrm_reg(place)), size, access)
        else:
            register_write(regs, modrm_rm(place), regs_get(regs, modrm_reg(place)), size)
    elif opcode == OPCODE_MOV_GROUP11:
        register_write(regs, modrm_rm(place), immediate(place, 2 if size == 2 else 4), size)
    else:
        register_write(regs, opcode_register(place), immediate(place, size), size)
    regs.rip = next_ip(place)
    return FIXUP_DONE


cdef int emulate_leave(const place_t *place, regs_t *regs, access_t *access) noexcept nogil:
    if not access.size:
        return read_first(regs.rbp, 8, access)
    access.size = 0
    regs.rsp = regs.rbp + 8
    regs.rbp = access.value
    regs.rip = next_ip(place)
    return FIXUP_DONE


cdef int emulate_popf(const place_t *place, regs_t *regs, access_t *access) noexcept nogil:
    """The slot's popf does it, unless it would set the trap flag: its trap would come after the jump back."""
    cdef uint8_t size = 2 if prefix_present(place, PREFIX_66) and not rex_of(place) & 8 else 8
    cdef uint64_t mask = POPF_MASK & 0xFFFF if size == 2 else POPF_MASK
    if not access.size:
        return read_first(regs.rsp, size, access)
    access.size = 0
    if place.slot_ip and not access.value & EFLAGS_TF:
        regs.rip = place.slot_ip
        return FIXUP_IP
    regs.eflags = (regs.eflags & ~mask) | (access.value & mask)
    regs.rsp += size
    regs.rip = next_ip(place)
    return FIXUP_DONE


cdef int emulate(const place_t *place, regs_t *regs, access_t *access) noexcept nogil:
    cdef regs_t before
    cdef int outcome
    if not regs.eflags & EFLAGS_AC:
        return emulate_unchecked(place, regs, access)
    before = regs[0]
    outcome = emulate_unchecked(place, regs, access)
    if access.size and access.vaddr & (access.size - 1):
        regs[0] = before
        access.size = 0
        return FIXUP_FAULTS  # alignment check
    return outcome


cdef int emulate_unchecked(const place_t *place, regs_t *regs, access_t *access) noexcept nogil:
    cdef unsigned int way = place.kind & ~PLAN_ONE_STOP
    if way == WAY_CALL_INDIRECT:
        return emulate_indirect(place, regs, True, access)
    if way == WAY_JMP_INDIRECT:
        return emulate_indirect(place, regs, False, access)
    if way == WAY_JCC:
        return emulate_jcc(place, regs)
    if way == WAY_LOOP:
        return emulate_loop(place, regs)
    if way == WAY_RET:
        return emulate_ret(place, regs, access)
    if way == WAY_PUSH:
        return emulate_push(place, regs, access)
    if way == WAY_POP:
        return emulate_pop(place, regs, access)
    if way == WAY_LEA:
        return emulate_lea(place, regs)
    if way == WAY_MOV:
        return emulate_mov(place, regs, access)
    if way == WAY_LEAVE:
        return emulate_leave(place, regs, access)
    if way == WAY_POPF:
        return emulate_popf(place, regs, access)
    if way == WAY_CALL:
        push(regs, next_ip(place), access)
        regs.rip = branch_target(place)
        return FIXUP_DONE
    if way == WAY_PUSHF:
        push(regs, regs.eflags & ~<uint64_t>EFLAGS_RF, access)  # RF reads as 0 (SDM vol. 2, PUSHF)
        regs.rip = next_ip(place)
        return FIXUP_DONE
    regs.rip = emulate_ip(place)
    return FIXUP_IP


cdef int way_of_move(const insn_t *insn) noexcept nogil:
    """Of the opcodes that do not depend on the default 64-bit operand size."""
    if insn.opcode == OPCODE_LEA:
        return WAY_LEA
    if insn.opcode in (OPCODE_MOV_LOAD, OPCODE_MOV_STORE) or insn.opcode & 0xF8 == OPCODE_MOV_IMMEDIATE:
        return WAY_MOV
    if insn.opcode == OPCODE_MOV_GROUP11 and insn.modrm >> 3 == 0x18:
        return WAY_MOV
    return WAY_NONE


cdef int way_of_stack(const insn_t *insn) noexcept nogil:
    if insn.opcode in (OPCODE_PUSH_IMM8, OPCODE_PUSH_IMM32) or insn.opcode & 0xF8 == OPCODE_PUSH:
        return WAY_PUSH
    if insn.opcode == OPCODE_GROUP5 and insn.modrm >> 3 & 7 == 6:
        return WAY_PUSH
    if insn.opcode & 0xF8 == OPCODE_POP:
        return WAY_POP
    if insn.opcode == OPCODE_LEAVE:
        return WAY_LEAVE
    if insn.opcode == OPCODE_PUSHF:
        return WAY_PUSHF
    return WAY_NONE


cdef int emulate_way(const insn_t *insn) noexcept nogil:
    if insn.flow == FLOW_JCC:
        return WAY_JCC
    if insn.encoding != ENC_LEGACY or insn.map != MAP_ONE or insn.prefixes & PFX_LOCK:
        return WAY_NONE
    if insn.flow == FLOW_LOOP:  # F2 and F3 change the condition on some processors
        return WAY_NONE if insn.prefixes & (PFX_F2 | PFX_F3) else WAY_LOOP
    if insn.flow == FLOW_JMP:
        return WAY_JMP
    if insn.flow == FLOW_CALL:
        return WAY_CALL
    if insn.flow == FLOW_CALL_INDIRECT:
        return WAY_CALL_INDIRECT
    if insn.flow == FLOW_JMP_INDIRECT:
        return WAY_JMP_INDIRECT
    if insn.flow == FLOW_RET:
        return WAY_RET
    if insn.flow != FLOW_NEXT:
        return WAY_NONE
    if insn.opcode == OPCODE_POPF:
        return WAY_POPF
    way = way_of_move(insn)
    if way != WAY_NONE:
        return way
    return WAY_NONE if insn.prefixes & PFX_66 else way_of_stack(insn)
