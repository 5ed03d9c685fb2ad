"""Writing hit code: see hitcode.pxd."""

from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from uprobe_core.abi cimport (
    FIELD_REGISTER, FIELD_STACK, HIT_RECORD, HIT_SECTIONS_MAX, HIT_STACK_MAX, RECORD_UNREAD, RING_HEADER, RING_STEP,
    RING_STEP_SHIFT, hit_field_t, hit_section_t, hit_sections_t, hitcode_t, hitplace_t, record_t, ring_t,
)
from uprobe_core.status cimport STATUS_NO_ROOM, STATUS_OK, STATUS_REFUSED
from uprobe_core.x86.assemble cimport (
    ASM_A, ASM_ADD, ASM_ADD_IMM, ASM_AE, ASM_AND_IMM, ASM_B, ASM_CMP_IMM, ASM_E, ASM_LE, ASM_LEA, ASM_LOAD, ASM_OR,
    ASM_S, ASM_SHL, ASM_SHR, ASM_STORE, ASM_SUB, ASM_XOR, asm_address, asm_immediate, asm_jump, asm_jump_if, asm_jump_short, asm_land, asm_land_short,
    asm_memory, asm_patch, asm_registers, asm_relative, asm_rex, asm_shift_by, asm_thread,
)
from uprobe_core.x86.emit cimport emit_byte, emit_jump, emit_u32, emit_u64, emitter_t
from uprobe_core.x86.hitframe cimport (
    FRAME_SCRATCH_MAX, frame_close, frame_has, frame_load, frame_open, frame_plan, frame_size, hitframe_t,
)
from uprobe_core.x86.predicate_code cimport (
    exits_add, exits_t, predicate_emit, predicate_registers, predicate_shifts,
)
from uprobe_core.x86.registers cimport REG_RAX, REG_RSP

cdef extern from * nogil:
    """
    #define RECORD_TSC ((int)offsetof(record_t, tsc))
    #define RECORD_TID ((int)offsetof(record_t, tid))
    #define RECORD_SITE ((int)offsetof(record_t, site))
    #define RING_HEAD ((int)offsetof(ring_t, head))
    #define RING_LOST ((int)offsetof(ring_t, lost))
    #define RING_TAIL ((int)offsetof(ring_t, tail))
    """
    const int RECORD_TSC
    const int RECORD_TID
    const int RECORD_SITE
    const int RING_HEAD
    const int RING_LOST
    const int RING_TAIL

cdef enum:
    REG_RDX = 2
    PAGE = 4096
    # Offsets in struct rseq and sizes of struct rseq_cs: part of the kernel's interface, include/uapi/linux/rseq.h.
    RSEQ_CPU = 0
    RSEQ_DESCRIPTOR = 8
    DESCRIPTOR_ALIGN = 32
    PROCESSORS_MAX = 0xFFF  # what IA32_TSC_AUX holds beside the node: Linux arch/x86/include/asm/segment.h

ctypedef struct writer_t:
    emitter_t *out
    const hitcode_t *what
    const hitplace_t *at
    hitframe_t frame
    exits_t exits
    unsigned int base  # the register that gets the address of this processor's stride


cdef void emit_address(writer_t *writer) noexcept nogil:
    """base is an offset in the board: make it an address. No borrow where the board is closed (or we are a fork's child,
    whose gate page is zero: subtracting 0 never borrows)."""
    asm_relative(writer.out, ASM_SUB, writer.base, writer.at.gate_vaddr + 8 * writer.what.board)


cdef void emit_gate(writer_t *writer) noexcept nogil:
    """The same, and leave where the board is closed."""
    emit_address(writer)
    exits_add(&writer.exits, asm_jump_if(writer.out, ASM_AE))


cdef void emit_section_begin(writer_t *writer, hit_section_t *section) noexcept nogil:
    """Announce the sequence to the kernel; base = address of the stride of the processor that we are on."""
    cdef emitter_t *out = writer.out
    section.again = <uint32_t>out.length
    asm_relative(out, ASM_LEA, writer.base, 0)  # of the descriptor, which hitcode_tail writes
    section.descriptor = <uint32_t>out.length
    asm_thread(out, ASM_STORE, writer.base, writer.at.rseq_offset + RSEQ_DESCRIPTOR, True)
    section.start = <uint32_t>out.length
    asm_thread(out, ASM_LOAD, writer.base, writer.at.rseq_offset + RSEQ_CPU, False)
    asm_shift_by(out, ASM_SHL, writer.base, writer.what.shift)
    emit_address(writer)


cdef void emit_count(writer_t *writer, hit_section_t *section) noexcept nogil:
    cdef emitter_t *out = writer.out
    cdef size_t closed
    if writer.at.has_rseq:
        emit_section_begin(writer, section)
    elif writer.at.has_rdpid:
        emit_byte(out, 0xF3)  # rdpid base
        asm_rex(out, False, 0, writer.base)
        emit_byte(out, 0x0F)
        emit_byte(out, 0xC7)
        emit_byte(out, 0xF8 | (writer.base & 7))
        asm_immediate(out, 4, writer.base, PROCESSORS_MAX, False)
        asm_shift_by(out, ASM_SHL, writer.base, writer.what.shift)
        emit_address(writer)
    else:
        asm_registers(out, ASM_XOR, writer.base, writer.base, False)
        emit_address(writer)
    closed = asm_jump_short(out, ASM_AE)
    if not writer.at.has_rseq:
        emit_byte(out, 0xF0)
    asm_rex(out, True, 0, writer.base)  # inc qword [base + offset]
    emit_byte(out, 0xFF)
    asm_address(out, 0, writer.base, <int32_t>writer.what.offset)
    section.end = <uint32_t>out.length
    asm_land_short(out, closed)


cdef void emit_budget(writer_t *writer) noexcept nogil:
    """Let only as many hits through as there is budget for. Shared by all processors, so that it is exact; once it is
    used up it is only read."""
    cdef emitter_t *out = writer.out
    asm_registers(out, ASM_XOR, writer.base, writer.base, False)
    emit_gate(writer)
    asm_rex(out, True, 0, writer.base)  # cmp qword [base + budget], 0
    emit_byte(out, 0x83)
    asm_address(out, ASM_CMP_IMM, writer.base, <int32_t>writer.what.budget)
    emit_byte(out, 0)
    exits_add(&writer.exits, asm_jump_if(out, ASM_LE))
    emit_byte(out, 0xF0)
    asm_rex(out, True, 0, writer.base)  # lock sub qword [base + budget], 1
    emit_byte(out, 0x83)
    asm_address(out, 5, writer.base, <int32_t>writer.what.budget)
    emit_byte(out, 1)
    exits_add(&writer.exits, asm_jump_if(out, ASM_S))


cdef void emit_field(writer_t *writer, const hit_field_t *field, unsigned int slot, int32_t disp) noexcept nogil:
    """Store one field at [slot + disp]; rax is free. The page above the one with the stack pointer may not exist: a word
    there is not touched, and the record says so."""
    cdef emitter_t *out = writer.out
    cdef int32_t above = 8 * field.word
    cdef size_t unread, done
    if field.kind == FIELD_REGISTER:
        if frame_has(&writer.frame, field.number):
            asm_memory(out, ASM_STORE, field.number, slot, disp, True)
            return
        frame_load(&writer.frame, out, REG_RAX, field.number)
        asm_memory(out, ASM_STORE, REG_RAX, slot, disp, True)
        return
    asm_memory(out, ASM_LEA, REG_RAX, REG_RSP, frame_size(&writer.frame), False)
    asm_immediate(out, ASM_AND_IMM, REG_RAX, PAGE - 1, False)
    asm_immediate(out, ASM_CMP_IMM, REG_RAX, PAGE - 8 - above, False)
    unread = asm_jump_if(out, ASM_A)
    asm_memory(out, ASM_LOAD, REG_RAX, REG_RSP, frame_size(&writer.frame) + above, True)
    done = asm_jump(out)
    asm_land(out, unread)
    asm_registers(out, ASM_XOR, REG_RAX, REG_RAX, False)
    asm_rex(out, False, 0, slot)  # or dword [slot + site], RECORD_UNREAD
    emit_byte(out, 0x81)
    asm_address(out, 1, slot, <int32_t>RING_HEADER + RECORD_SITE)
    emit_u32(out, RECORD_UNREAD)
    asm_land(out, done)
    asm_memory(out, ASM_STORE, REG_RAX, slot, disp, True)


cdef void emit_record(writer_t *writer, hit_section_t *section) noexcept nogil:
    """rax: the ring's head word, then this and that; at the end, the word that is committed at [base]. Three ways lead
    there: a record was written, the hit was let go by for sampling, or the ring was full."""
    cdef emitter_t *out = writer.out
    cdef const hitcode_t *what = writer.what
    cdef unsigned int base = writer.base
    cdef unsigned int slot = writer.frame.scratch[3]
    cdef uint32_t size = <uint32_t>(sizeof(record_t) + 8 * what.field_count)
    cdef int32_t head = <int32_t>what.offset + RING_HEAD
    cdef size_t sampled, counted, full, written
    cdef size_t passed = 0
    cdef uint32_t i
    emit_section_begin(writer, section)
    exits_add(&writer.exits, asm_jump_if(out, ASM_AE))
    asm_memory(out, ASM_LOAD, REG_RAX, base, head, True)
    if what.every > 1:
        asm_registers(out, ASM_LOAD, REG_RDX, REG_RAX, False)
        asm_immediate(out, ASM_AND_IMM, REG_RDX, RING_STEP - 1, False)
        sampled = asm_jump_if(out, ASM_E)
        asm_immediate(out, ASM_ADD_IMM, REG_RAX, 1, True)
        asm_immediate(out, ASM_ADD_IMM, REG_RDX, 1, False)
        asm_immediate(out, ASM_CMP_IMM, REG_RDX, <int32_t>what.every, False)
        counted = asm_jump_if(out, ASM_B)
        asm_immediate(out, ASM_AND_IMM, REG_RAX, -<int32_t>RING_STEP, True)
        asm_land(out, counted)
        passed = asm_jump(out)
        asm_land(out, sampled)
    # Full?
    asm_registers(out, ASM_LOAD, REG_RDX, REG_RAX, True)
    asm_memory(out, ASM_SUB, REG_RDX, base, <int32_t>what.offset + RING_TAIL, True)
    asm_shift_by(out, ASM_SHR, REG_RDX, RING_STEP_SHIFT)
    asm_immediate(out, ASM_CMP_IMM, REG_RDX, <int32_t>(<uint32_t>1 << what.order), True)
    full = asm_jump_if(out, ASM_AE)
    # The place of the record. The index is masked: whatever the ring's words say, the store stays in the ring.
    asm_shift_by(out, ASM_SHR, REG_RAX, RING_STEP_SHIFT)
    asm_immediate(out, ASM_AND_IMM, REG_RAX, <int32_t>((<uint32_t>1 << what.order) - 1), False)
    asm_rex(out, True, slot, REG_RAX)  # imul slot, rax, size
    emit_byte(out, 0x69)
    emit_byte(out, 0xC0 | (slot & 7) << 3 | REG_RAX)
    emit_u32(out, size)
    asm_registers(out, ASM_ADD, slot, base, True)
    if what.offset:
        asm_immediate(out, ASM_ADD_IMM, slot, <int32_t>what.offset, True)
    asm_rex(out, False, 0, slot)  # mov dword [slot + site], imm32
    emit_byte(out, 0xC7)
    asm_address(out, 0, slot, <int32_t>RING_HEADER + RECORD_SITE)
    emit_u32(out, what.site)
    for i in range(what.field_count):
        emit_field(writer, &what.fields[i], slot, <int32_t>(RING_HEADER + sizeof(record_t) + 8 * i))
    asm_thread(out, ASM_LOAD, REG_RAX, writer.at.tid_offset, False)
    asm_memory(out, ASM_STORE, REG_RAX, slot, <int32_t>RING_HEADER + RECORD_TID, False)
    emit_byte(out, 0x0F)  # rdtsc
    emit_byte(out, 0x31)
    asm_shift_by(out, ASM_SHL, REG_RDX, 32)
    asm_registers(out, ASM_OR, REG_RAX, REG_RDX, True)
    asm_memory(out, ASM_STORE, REG_RAX, slot, <int32_t>RING_HEADER + RECORD_TSC, True)
    asm_memory(out, ASM_LOAD, REG_RAX, base, head, True)
    asm_immediate(out, ASM_ADD_IMM, REG_RAX, <int32_t>(RING_STEP + (1 if what.every > 1 else 0)), True)
    written = asm_jump(out)
    asm_land(out, full)
    asm_memory(out, ASM_LOAD, REG_RAX, base, <int32_t>what.offset + RING_LOST, True)
    asm_immediate(out, ASM_ADD_IMM, REG_RAX, 1, True)
    asm_immediate(out, ASM_ADD_IMM, base, RING_LOST - RING_HEAD, True)
    asm_land(out, written)
    if what.every > 1:
        asm_land(out, passed)
    asm_memory(out, ASM_STORE, REG_RAX, base, head, True)
    section.end = <uint32_t>out.length


cdef uint32_t wanted_registers(const hitcode_t *what) noexcept nogil:
    cdef uint32_t mask = predicate_registers(what)
    cdef uint32_t i
    for i in range(what.field_count):
        if what.fields[i].kind == FIELD_REGISTER:
            mask |= <uint32_t>1 << (what.fields[i].number & 15)
    return mask


cdef int plan_frame(writer_t *writer) noexcept nogil:
    """The frame with the fewest scratch registers that the predicate, tried out on no room, is content with."""
    cdef emitter_t *out = writer.out
    cdef emitter_t nowhere
    cdef bint records = writer.what.action == HIT_RECORD
    cdef uint32_t forced = 1 << REG_RAX | 1 << REG_RDX if records else 0
    cdef uint32_t wanted = wanted_registers(writer.what)
    cdef bint shifts = predicate_shifts(writer.what)
    cdef unsigned int count
    cdef int status = STATUS_NO_ROOM
    for count in range(4 if records else 1, FRAME_SCRATCH_MAX + 1):
        frame_plan(&writer.frame, writer.at, forced, wanted, count, shifts)
        nowhere = out[0]
        nowhere.room = 0
        writer.exits.count = 0
        status = predicate_emit(&nowhere, writer.what, writer.at, &writer.frame, &writer.exits)
        if status != STATUS_NO_ROOM:
            break
    writer.exits.count = 0
    return STATUS_REFUSED if status == STATUS_NO_ROOM else status


cdef int hitcode_emit(emitter_t *out, const hitcode_t *what, const hitplace_t *at,
                      hit_sections_t *sections) noexcept nogil:
    cdef writer_t writer
    cdef hit_section_t *section = &sections.sections[sections.count]
    cdef uint32_t i
    cdef int status
    if what.action == HIT_RECORD and (not at.has_rseq or at.tid_offset == 0):
        return STATUS_REFUSED
    if sections.count == HIT_SECTIONS_MAX:
        return STATUS_NO_ROOM
    writer.out = out
    writer.what = what
    writer.at = at
    status = plan_frame(&writer)
    if status:
        return status
    writer.base = writer.frame.scratch[2 if what.action == HIT_RECORD else 0]
    frame_open(&writer.frame, out)
    predicate_emit(out, what, at, &writer.frame, &writer.exits)
    if what.budget:
        emit_budget(&writer)
    if what.action == HIT_RECORD:
        emit_record(&writer, section)
    else:
        emit_count(&writer, section)
    if at.has_rseq:
        sections.count += 1
        sections.signature = at.signature
    for i in range(writer.exits.count):
        asm_land(out, writer.exits.jumps[i])
    frame_close(&writer.frame, out)
    return STATUS_OK


cdef void hitcode_tail(emitter_t *out, emitter_t *cold, const hit_sections_t *sections) noexcept nogil:
    cdef const hit_section_t *section
    cdef uint64_t stub_ip
    cdef uint32_t distance, i
    for i in range(sections.count):
        section = &sections.sections[i]
        # The signature stands in front of the abort address, as the operand of an instruction that faults.
        emit_byte(cold, 0x0F)  # ud1 edi, [rip + signature]
        emit_byte(cold, 0xB9)
        emit_byte(cold, 0x3D)
        emit_u32(cold, sections.signature)
        stub_ip = cold.ip + cold.length
        emit_jump(cold, out.ip + section.again)
        while (cold.ip + cold.length) % DESCRIPTOR_ALIGN:
            emit_byte(cold, 0xCC)
        distance = <uint32_t>(cold.ip + cold.length - (out.ip + section.descriptor))
        emit_u32(cold, 0)  # version
        emit_u32(cold, 0)  # flags
        emit_u64(cold, out.ip + section.start)
        emit_u64(cold, section.end - section.start)
        emit_u64(cold, stub_ip)
        if section.descriptor <= out.room:
            memcpy(out.bytes + section.descriptor - 4, &distance, 4)


cdef const hit_section_t *section_at(const hit_sections_t *sections, uint32_t at) noexcept nogil:
    cdef uint32_t i
    for i in range(sections.count):
        if sections.sections[i].again <= at < sections.sections[i].end:
            return &sections.sections[i]
    return NULL
