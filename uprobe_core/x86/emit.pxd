"""Write x86 instructions into a buffer.

Pure. No sequence here changes a flag, a register that it does not name, or memory below the stack pointer that it
does not push. Used for slots and for trampolines.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

# A buffer that is being filled: code from the start, the addresses of far jumps from the end. Both count on where
# there is no room left, and nothing is written then: see emit_fits.
ctypedef struct emitter_t:
    uint8_t *bytes
    uint64_t ip       # at which bytes[0] will run; a multiple of 8, as is `room`: with EFLAGS.AC set an unaligned
    size_t room       # address would fault when the jump reads it
    size_t length     # of the code
    size_t literals   # bytes at the end

cdef enum:
    JUMP_NEAR_SIZE = 5
    JUMP_FAR_SIZE = 6


cdef inline void emit_begin(emitter_t *out, uint8_t *bytes, size_t room, uint64_t ip) noexcept nogil:
    out.bytes = bytes
    out.room = room
    out.ip = ip
    out.length = 0
    out.literals = 0


cdef inline bint emit_fits(const emitter_t *out) noexcept nogil:
    return out.length + out.literals <= out.room


cdef inline void emit_bytes(emitter_t *out, const void *source, size_t size) noexcept nogil:
    if out.length + size + out.literals <= out.room:
        memcpy(out.bytes + out.length, source, size)
    out.length += size


cdef inline void emit_byte(emitter_t *out, uint8_t value) noexcept nogil:
    emit_bytes(out, &value, 1)


cdef inline void emit_u32(emitter_t *out, uint32_t value) noexcept nogil:
    emit_bytes(out, &value, 4)


cdef inline void emit_u64(emitter_t *out, uint64_t value) noexcept nogil:
    emit_bytes(out, &value, 8)


cdef inline bint reach_near(uint64_t from_ip, uint64_t to_vaddr) noexcept nogil:
    """Whether `to_vaddr` is a disp32 away from `from_ip`, the address after the displacement's instruction."""
    cdef int64_t distance = <int64_t>(to_vaddr - from_ip)
    return distance == <int32_t>distance


cdef inline size_t jump_size(uint64_t at_ip, uint64_t to_vaddr) noexcept nogil:
    """Bytes that emit_jump writes at `at_ip`."""
    return JUMP_NEAR_SIZE if reach_near(at_ip + JUMP_NEAR_SIZE, to_vaddr) else JUMP_FAR_SIZE


cdef inline void emit_jump(emitter_t *out, uint64_t to_vaddr) noexcept nogil:
    """jmp to_vaddr, however far."""
    cdef uint64_t at_ip = out.ip + out.length
    if jump_size(at_ip, to_vaddr) == JUMP_NEAR_SIZE:
        emit_byte(out, 0xE9)
        emit_u32(out, <uint32_t>(to_vaddr - at_ip - JUMP_NEAR_SIZE))
        return
    out.literals += 8
    emit_byte(out, 0xFF)  # jmp [rip+disp32]
    emit_byte(out, 0x25)
    emit_u32(out, <uint32_t>(out.room - out.literals - out.length - 4))
    if emit_fits(out):
        memcpy(out.bytes + out.room - out.literals, &to_vaddr, 8)


cdef inline bint push_is_short(uint64_t value) noexcept nogil:
    """Whether `push imm32`, which sign-extends, gives the whole value."""
    return <uint64_t><int64_t><int32_t>value == value


cdef inline size_t push_size(uint64_t value) noexcept nogil:
    """Bytes that emit_push writes."""
    return 5 if push_is_short(value) else 13


cdef inline void emit_push(emitter_t *out, uint64_t value) noexcept nogil:
    """Push a 64-bit constant: the low half sign-extended, then the high half over the extension."""
    emit_byte(out, 0x68)
    emit_u32(out, <uint32_t>value)
    if not push_is_short(value):
        emit_byte(out, 0xC7)  # mov dword [rsp+4], imm32
        emit_byte(out, 0x44)
        emit_byte(out, 0x24)
        emit_byte(out, 0x04)
        emit_u32(out, <uint32_t>(value >> 32))


cdef inline void emit_load(emitter_t *out, unsigned int number, uint64_t value) noexcept nogil:
    """mov r64, imm64."""
    emit_byte(out, 0x49 if number & 8 else 0x48)
    emit_byte(out, 0xB8 | (number & 7))
    emit_u64(out, value)
