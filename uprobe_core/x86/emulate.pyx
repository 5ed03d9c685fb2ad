"""What an instruction does to registers and memory, worked out without running it."""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from uprobe_core.abi cimport PLAN_ONE_STOP, WAY_BOOST, WAY_CALL_INDIRECT, WAY_JMP, regs_t
from uprobe_core.x86.branch cimport branch_target
from uprobe_core.x86.fixup cimport FIXUP_DONE, FIXUP_FAILED, FIXUP_IP, FIXUP_READ
from uprobe_core.x86.registers cimport REG_RBP, REG_RSP, regs_get, regs_set

cdef enum:
    PREFIX_FS = 0x64
    PREFIX_GS = 0x65
    PREFIX_67 = 0x67


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


cdef uint64_t operand_vaddr(const place_t *place, const regs_t *regs) noexcept nogil:
    """The address of the memory operand of an instruction without an immediate (SDM vol. 2, 2.1.5)."""
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
        vaddr = place.ip + place.length
    else:
        vaddr = regs_get(regs, base | (rex & 1) << 3)
    if mod == 1:
        disp = <int8_t>rest[0]
    elif mod == 2 or (mod == 0 and base == 5):
        memcpy(&disp, rest, 4)
    vaddr += <uint64_t><int64_t>disp
    if prefix_present(place, PREFIX_67):
        vaddr = <uint32_t>vaddr
    return vaddr + segment_base(place, regs)


cdef uint64_t emulate_ip(const place_t *place) noexcept nogil:
    if place.kind == (PLAN_ONE_STOP | WAY_BOOST):
        return place.slot_ip
    if place.kind == (PLAN_ONE_STOP | WAY_JMP):
        return branch_target(place)
    return place.ip + place.length


cdef int read_first(uint64_t vaddr, access_t *access) noexcept nogil:
    access.vaddr = vaddr
    access.size = 8
    access.write = 0
    return FIXUP_READ


cdef void push(const place_t *place, regs_t *regs, uint64_t value, access_t *access) noexcept nogil:
    regs.rsp -= 8
    access.vaddr = regs.rsp
    access.value = value
    access.size = 8
    access.write = 1


cdef int emulate_indirect(const place_t *place, regs_t *regs, bint is_call, access_t *access) noexcept nogil:
    cdef uint8_t modrm = place.original[place.operand + 1]
    cdef uint64_t target
    cdef uint64_t vaddr
    if modrm >= 0xC0:
        target = regs_get(regs, (modrm & 7) | (rex_of(place) & 1) << 3)
    else:
        vaddr = operand_vaddr(place, regs)
        # The slot pushes before it reads the operand, so the two must not meet.
        if is_call and place.slot_ip and vaddr - (regs.rsp - 8) + 7 > 14:
            regs.rip = place.slot_ip
            return FIXUP_IP
        if not access.size:
            return read_first(vaddr, access)
        target = access.value
    access.size = 0
    if is_call:
        push(place, regs, place.ip + place.length, access)
    regs.rip = target
    return FIXUP_DONE


cdef int emulate(const place_t *place, regs_t *regs, access_t *access) noexcept nogil:
    return emulate_indirect(place, regs, place.kind == (PLAN_ONE_STOP | WAY_CALL_INDIRECT), access)
