"""Frames of hit code: see hitframe.pxd."""

from libc.stdint cimport int8_t, uint8_t, uint32_t
from libc.string cimport memset

from uprobe_core.abi cimport hitplace_t
from uprobe_core.x86.assemble cimport ASM_LEA, ASM_LOAD, ASM_OR, asm_memory, asm_pop, asm_push, asm_registers
from uprobe_core.x86.emit cimport emit_byte, emitter_t
from uprobe_core.x86.registers cimport REG_RAX, REG_RCX, REG_RSP

cdef extern from * nogil:
    """
    /* Every register but rsp, those first that are most often dead; rax not first, for a dead one can hold the flags. */
    #define CHOICES 15u
    static const uint8_t frame_choice[CHOICES] = {11, 10, 9, 8, 7, 6, 2, 1, 0, 3, 5, 12, 13, 14, 15};
    """
    const unsigned int CHOICES
    const uint8_t frame_choice[15]

cdef enum:
    RED_ZONE = 128


cdef void frame_take(hitframe_t *frame, unsigned int number, uint32_t kept) noexcept nogil:
    """`number` may be changed from now on; its value is pushed if it is one of those kept."""
    if kept & (<uint32_t>1 << number) and frame.saved[number] < 0:
        frame.saved[number] = <int8_t>frame.depth
        frame.pushed[frame.depth] = <uint8_t>number
        frame.depth += 1


cdef void frame_plan(hitframe_t *frame, const hitplace_t *at, uint32_t forced, uint32_t wanted, unsigned int count,
                     bint shift) noexcept nogil:
    cdef uint32_t kept = ~at.dead | wanted
    cdef uint32_t chosen = forced
    cdef uint32_t bit
    cdef unsigned int number, turn
    memset(frame, 0, sizeof(hitframe_t))
    memset(frame.saved, -1, sizeof(frame.saved))
    frame.flags_live = not at.flags_dead
    # lahf writes rax: live, it is pushed for the flags' sake, and then it is a scratch register as well.
    if frame.flags_live and kept & 1 and count:
        chosen |= 1
    for number in range(16):
        if chosen & (<uint32_t>1 << number) and frame.scratch_count < count:
            frame.scratch[frame.scratch_count] = <uint8_t>number
            frame.scratch_count += 1
    if shift:
        chosen |= 1 << REG_RCX
    for turn in range(2):  # dead registers, then others
        for number in range(CHOICES):
            bit = <uint32_t>1 << frame_choice[number]
            if frame.scratch_count < count and not chosen & bit and (turn or not kept & bit):
                if not turn and frame.flags_live and frame_choice[number] == REG_RAX:
                    continue
                chosen |= bit
                frame.scratch[frame.scratch_count] = frame_choice[number]
                frame.scratch_count += 1
    if frame.flags_live:
        frame_take(frame, REG_RAX, kept)
    for number in range(16):
        if chosen & (<uint32_t>1 << number):
            frame_take(frame, number, kept)
    if frame.flags_live and chosen & 1:
        frame.pushed[frame.depth] = FRAME_FLAGS
        frame.depth += 1
    frame.red_zone = at.red_zone and frame.depth


cdef void frame_step(const hitframe_t *frame, emitter_t *out, int distance) noexcept nogil:
    """lea rsp, [rsp + distance]"""
    asm_memory(out, ASM_LEA, REG_RSP, REG_RSP, distance, True)


cdef void frame_open(const hitframe_t *frame, emitter_t *out) noexcept nogil:
    cdef uint32_t i
    if frame.red_zone:
        frame_step(frame, out, -RED_ZONE)
    for i in range(frame.depth):
        if frame.pushed[i] != FRAME_FLAGS:
            asm_push(out, frame.pushed[i])
    if frame.flags_live:
        emit_byte(out, 0x9F)  # lahf
        emit_byte(out, 0x0F)  # seto al
        emit_byte(out, 0x90)
        emit_byte(out, 0xC0)
        if frame.depth and frame.pushed[frame.depth - 1] == FRAME_FLAGS:
            asm_push(out, REG_RAX)


cdef void frame_close(const hitframe_t *frame, emitter_t *out) noexcept nogil:
    cdef uint32_t i = frame.depth
    if frame.flags_live:
        if i and frame.pushed[i - 1] == FRAME_FLAGS:
            asm_pop(out, REG_RAX)
            i -= 1
        emit_byte(out, 0x04)  # add al, 127: overflows where al is 1
        emit_byte(out, 0x7F)
        emit_byte(out, 0x9E)  # sahf
    while i:
        i -= 1
        asm_pop(out, frame.pushed[i])
    if frame.red_zone:
        frame_step(frame, out, RED_ZONE)


cdef void frame_load(const hitframe_t *frame, emitter_t *out, unsigned int reg, unsigned int number) noexcept nogil:
    if number == REG_RSP:
        asm_memory(out, ASM_LEA, reg, REG_RSP, frame_size(frame), True)
    elif frame.saved[number] >= 0:
        asm_memory(out, ASM_LOAD, reg, REG_RSP, <int>(8 * (frame.depth - 1 - frame.saved[number])), True)
    elif reg != number:
        asm_registers(out, ASM_LOAD, reg, number, True)
