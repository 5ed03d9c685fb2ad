"""Counting in the target: see count.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from uprobe_core.x86.emit cimport emit_byte, emit_bytes, emit_fits, emit_jump, emit_u32, emit_u64

cdef enum:
    REG_R11 = 11
    RED_ZONE = 128
    RSEQ_CS_OFF = 8      # struct rseq: the descriptor's address
    DESCRIPTOR_ALIGN = 8
    OPCODE_INT3 = 0xCC

cdef const char *PUSH_R11 = b"\x41\x53"
cdef const char *POP_R11 = b"\x41\x5b"
cdef const char *LEA_R11_RIP = b"\x4c\x8d\x1d"           # lea r11, [rip+disp32]
cdef const char *MOV_FS_R11 = b"\x64\x4c\x89\x1c\x25"    # mov fs:[disp32], r11
cdef const char *MOV_R11D_FS = b"\x64\x44\x8b\x1c\x25"   # mov r11d, fs:[disp32]
cdef const char *SHL_R11 = b"\x49\xc1\xe3"               # shl r11, imm8
cdef const char *XOR_R11D = b"\x45\x31\xdb"
cdef const char *SUB_R11_RIP = b"\x4c\x2b\x1d"           # sub r11, [rip+disp32]
cdef const char *INC_R11 = b"\x49\xff\x83"               # inc qword [r11+disp32]
cdef const char *LEA_RSP = b"\x48\x8d\xa4\x24"           # lea rsp, [rsp+disp32]
cdef const char *SAVE_FLAGS = b"\x50\x9f\x0f\x90\xc0\x50"      # push rax; lahf; seto al; push rax
cdef const char *UD1_RIP = b"\x0f\xb9\x3d"              # ud1 edi, [rip+disp32]
cdef const char *RESTORE_FLAGS = b"\x58\x04\x7f\x9e\x58"       # pop rax; add al, 127; sahf; pop rax


cdef void rip_operand(emitter_t *out, uint64_t vaddr) noexcept nogil:
    """The disp32 of an instruction that ends with it."""
    emit_u32(out, <uint32_t>(vaddr - (out.ip + out.length + 4)))


cdef void stack_move(emitter_t *out, int distance) noexcept nogil:
    emit_bytes(out, LEA_RSP, 4)
    emit_u32(out, <uint32_t>distance)


cdef void count_emit(emitter_t *out, const board_view_t *board, const place_view_t *place, uint32_t cell_off,
                     section_t *section) noexcept nogil:
    cdef bint keep = not place.dead >> REG_R11 & 1
    cdef bint moves = place.red_zone and (keep or not place.flags_dead)
    cdef size_t skip
    cdef uint8_t distance
    section.lea = 0
    if moves:
        stack_move(out, -RED_ZONE)
    if keep:
        emit_bytes(out, PUSH_R11, 2)
    if not place.flags_dead:
        emit_bytes(out, SAVE_FLAGS, 6)
    section.begin = out.length
    if board.rseq_off:
        emit_bytes(out, LEA_R11_RIP, 3)
        section.lea = out.length
        emit_u32(out, 0)
        emit_bytes(out, MOV_FS_R11, 5)
        emit_u32(out, <uint32_t>(board.rseq_off + RSEQ_CS_OFF))
        section.start = out.length
        emit_bytes(out, MOV_R11D_FS, 5)
        emit_u32(out, <uint32_t>board.rseq_off)
        emit_bytes(out, SHL_R11, 3)
        emit_byte(out, board.shift)
    else:
        emit_bytes(out, XOR_R11D, 3)
    emit_bytes(out, SUB_R11_RIP, 3)
    rip_operand(out, board.gate_vaddr)
    emit_byte(out, 0x73)  # jnc: the gate is closed
    skip = out.length
    emit_byte(out, 0)
    if not board.rseq_off:
        emit_byte(out, 0xF0)
    emit_bytes(out, INC_R11, 3)
    emit_u32(out, cell_off)
    section.commit = out.length
    distance = <uint8_t>(out.length - skip - 1)
    if emit_fits(out):
        out.bytes[skip] = distance
    if not place.flags_dead:
        emit_bytes(out, RESTORE_FLAGS, 5)
    if keep:
        emit_bytes(out, POP_R11, 2)
    if moves:
        stack_move(out, RED_ZONE)


cdef void count_tail(emitter_t *out, const board_view_t *board, const section_t *section) noexcept nogil:
    cdef uint64_t abort_ip
    cdef uint32_t distance
    if not section.lea:
        return
    emit_bytes(out, UD1_RIP, 3)  # the signature is the displacement of a ud1: nobody runs into it
    emit_u32(out, board.signature)
    abort_ip = out.ip + out.length
    emit_jump(out, out.ip + section.begin)  # the kernel has cleared rseq_cs: it is set again
    while (out.ip + out.length) % DESCRIPTOR_ALIGN:
        emit_byte(out, OPCODE_INT3)
    distance = <uint32_t>(out.length - (section.lea + 4))
    if emit_fits(out):
        memcpy(out.bytes + section.lea, &distance, 4)
    emit_u32(out, 0)  # version
    emit_u32(out, 0)  # flags
    emit_u64(out, out.ip + section.start)
    emit_u64(out, section.commit - section.start)
    emit_u64(out, abort_ip)
