"""Predicates as native code: see predicate_code.pxd.

The words of the predicate's stack are kept where they are for as long as that goes: a constant, a register of the target,
or the condition flags; only what is computed goes to the scratch register of its place in the stack.
"""

from libc.stdint cimport int32_t, uint32_t, uint64_t

from uprobe_core.abi cimport (
    OP_ADD, OP_AND, OP_CONSTANT, OP_DIVIDE, OP_EQUAL, OP_GREATER, OP_GREATER_EQUAL, OP_GREATER_EQUAL_SIGNED,
    OP_GREATER_SIGNED, OP_INVERT, OP_IS_ZERO, OP_LESS, OP_LESS_EQUAL, OP_LESS_EQUAL_SIGNED, OP_LESS_SIGNED, OP_MODULO,
    OP_MULTIPLY, OP_NEGATE, OP_OR, OP_REGISTER, OP_SHIFT_LEFT, OP_SHIFT_RIGHT, OP_SHIFT_SIGNED, OP_SIGN_8, OP_SIGN_16,
    OP_SIGN_32, OP_STACK, OP_SUBTRACT, OP_TEST, OP_TID, OP_UNEQUAL, OP_XOR, PREDICATE_DEPTH_MAX, hitcode_t, hitplace_t,
)
from uprobe_core.status cimport STATUS_NO_ROOM, STATUS_OK, STATUS_REFUSED
from uprobe_core.x86.assemble cimport (
    ASM_A, ASM_ADD, ASM_ADD_IMM, ASM_AE, ASM_AND, ASM_AND_IMM, ASM_B, ASM_BE, ASM_CMP, ASM_CMP_IMM, ASM_E, ASM_G,
    ASM_GE, ASM_IMUL, ASM_L, ASM_LE, ASM_LOAD, ASM_MOVSX8, ASM_MOVSX16, ASM_MOVSXD, ASM_NE, ASM_OR, ASM_OR_IMM, ASM_SAR,
    ASM_SHL, ASM_SHR, ASM_SUB, ASM_SUB_IMM, ASM_TEST, ASM_XOR, ASM_XOR_IMM, asm_constant, asm_immediate, asm_jump,
    asm_jump_if, asm_registers, asm_set, asm_shift_by, asm_shift_cl, asm_thread, asm_unary, fits_imm32,
)
from uprobe_core.x86.emit cimport emitter_t
from uprobe_core.x86.hitframe cimport frame_has, frame_load, hitframe_t
from uprobe_core.x86.registers cimport REG_RCX

cdef enum word_kind:
    WORD_CONSTANT   # `value`
    WORD_REGISTER   # register `value` of the target, at the hit
    WORD_SCRATCH    # in the scratch register of its place
    WORD_CONDITION  # 1 where condition `value` holds, else 0; only ever on top

ctypedef struct word_t:
    int kind
    uint64_t value

ctypedef struct compiler_t:
    emitter_t *out
    const hitframe_t *frame
    word_t words[PREDICATE_DEPTH_MAX + 1]
    uint32_t depth
    int status


cdef uint32_t predicate_registers(const hitcode_t *what) noexcept nogil:
    cdef uint32_t mask = 0
    cdef uint32_t i
    for i in range(what.op_count):
        if what.ops[i].code == OP_REGISTER:
            mask |= <uint32_t>1 << (what.ops[i].value & 15)
    return mask


cdef bint predicate_shifts(const hitcode_t *what) noexcept nogil:
    cdef uint32_t i
    for i in range(what.op_count):
        if OP_SHIFT_LEFT <= what.ops[i].code <= OP_SHIFT_SIGNED and (i == 0 or what.ops[i - 1].code != OP_CONSTANT):
            return True
    return False


cdef unsigned int scratch_of(compiler_t *state, uint32_t place) noexcept nogil:
    """The scratch register of a place in the stack."""
    if place >= state.frame.scratch_count:
        state.status = STATUS_NO_ROOM
        return 0
    return state.frame.scratch[place]


cdef unsigned int in_scratch(compiler_t *state, uint32_t place) noexcept nogil:
    """Put the word at `place` into its scratch register, which is the result."""
    cdef unsigned int reg = scratch_of(state, place)
    cdef word_t *word = &state.words[place]
    if word.kind == WORD_CONSTANT:
        asm_constant(state.out, reg, word.value)
    elif word.kind == WORD_REGISTER:
        frame_load(state.frame, state.out, reg, <unsigned int>word.value)
    elif word.kind == WORD_CONDITION:
        asm_set(state.out, <unsigned int>word.value, reg)
    word.kind = WORD_SCRATCH
    return reg


cdef unsigned int in_register(compiler_t *state, uint32_t place) noexcept nogil:
    """A register that has the word at `place`, not to be changed."""
    cdef word_t *word = &state.words[place]
    if word.kind == WORD_REGISTER and frame_has(state.frame, <unsigned int>word.value):
        return <unsigned int>word.value
    return in_scratch(state, place)


cdef bint is_short(const word_t *word) noexcept nogil:
    return word.kind == WORD_CONSTANT and fits_imm32(word.value)


cdef void push_word(compiler_t *state, int kind, uint64_t value) noexcept nogil:
    state.words[state.depth].kind = kind
    state.words[state.depth].value = value
    state.depth += 1


cdef int condition_of(uint64_t code) noexcept nogil:
    """The condition of a comparison."""
    if code == OP_EQUAL:
        return ASM_E
    if code == OP_UNEQUAL:
        return ASM_NE
    if code == OP_LESS:
        return ASM_B
    if code == OP_LESS_EQUAL:
        return ASM_BE
    if code == OP_GREATER:
        return ASM_A
    if code == OP_GREATER_EQUAL:
        return ASM_AE
    if code == OP_LESS_SIGNED:
        return ASM_L
    if code == OP_LESS_EQUAL_SIGNED:
        return ASM_LE
    if code == OP_GREATER_SIGNED:
        return ASM_G
    return ASM_GE


cdef void emit_compare(compiler_t *state, uint64_t code, bint to_flags) noexcept nogil:
    cdef uint32_t left = state.depth - 2
    cdef unsigned int reg = in_register(state, left)
    if is_short(&state.words[left + 1]):
        asm_immediate(state.out, ASM_CMP_IMM, reg, <int32_t>state.words[left + 1].value, True)
    else:
        asm_registers(state.out, ASM_CMP, reg, in_register(state, left + 1), True)
    state.depth = left
    push_word(state, WORD_CONDITION, condition_of(code))
    if not to_flags:
        in_scratch(state, left)


cdef void emit_shift(compiler_t *state, uint64_t code) noexcept nogil:
    cdef uint32_t left = state.depth - 2
    cdef word_t *right = &state.words[left + 1]
    cdef unsigned int operation = ASM_SHL if code == OP_SHIFT_LEFT else ASM_SHR if code == OP_SHIFT_RIGHT else ASM_SAR
    cdef unsigned int reg = in_scratch(state, left)
    if right.kind == WORD_CONSTANT:
        asm_shift_by(state.out, operation, reg, <int>(right.value & 63))
    else:
        asm_registers(state.out, ASM_LOAD, REG_RCX, in_register(state, left + 1), True)
        asm_shift_cl(state.out, operation, reg)
    state.depth = left + 1


cdef void emit_binary(compiler_t *state, uint64_t code) noexcept nogil:
    cdef uint32_t left = state.depth - 2
    cdef word_t *right = &state.words[left + 1]
    cdef unsigned int opcode, operation
    cdef unsigned int reg = in_scratch(state, left)
    if code == OP_ADD:
        opcode, operation = ASM_ADD, ASM_ADD_IMM
    elif code == OP_SUBTRACT:
        opcode, operation = ASM_SUB, ASM_SUB_IMM
    elif code == OP_AND:
        opcode, operation = ASM_AND, ASM_AND_IMM
    elif code == OP_OR:
        opcode, operation = ASM_OR, ASM_OR_IMM
    else:
        opcode, operation = ASM_XOR, ASM_XOR_IMM
    if code == OP_MULTIPLY:
        asm_registers(state.out, ASM_IMUL, reg, in_register(state, left + 1), True)
    elif is_short(right):
        asm_immediate(state.out, operation, reg, <int32_t>right.value, True)
    else:
        asm_registers(state.out, opcode, reg, in_register(state, left + 1), True)
    state.depth = left + 1


cdef void emit_unary(compiler_t *state, uint64_t code) noexcept nogil:
    cdef unsigned int reg = in_scratch(state, state.depth - 1)
    if code == OP_INVERT:
        asm_unary(state.out, 2, reg)
    elif code == OP_NEGATE:
        asm_unary(state.out, 3, reg)
    elif code == OP_SIGN_8:
        asm_registers(state.out, ASM_MOVSX8, reg, reg, True)
    elif code == OP_SIGN_16:
        asm_registers(state.out, ASM_MOVSX16, reg, reg, True)
    else:
        asm_registers(state.out, ASM_MOVSXD, reg, reg, True)


cdef void emit_is_zero(compiler_t *state, bint to_flags) noexcept nogil:
    cdef uint32_t place = state.depth - 1
    cdef unsigned int reg
    if state.words[place].kind == WORD_CONDITION:
        state.words[place].value ^= 1  # conditions come in pairs
    else:
        reg = in_register(state, place)
        asm_registers(state.out, ASM_TEST, reg, reg, True)
        state.words[place].kind = WORD_CONDITION
        state.words[place].value = ASM_E
    if not to_flags:
        in_scratch(state, place)


cdef void emit_test(compiler_t *state, exits_t *exits) noexcept nogil:
    cdef word_t *word = &state.words[state.depth - 1]
    cdef unsigned int reg
    if word.kind == WORD_CONDITION:
        exits_add(exits, asm_jump_if(state.out, <unsigned int>word.value ^ 1))
    elif word.kind == WORD_CONSTANT:
        if word.value == 0:
            exits_add(exits, asm_jump(state.out))
    else:
        reg = in_register(state, state.depth - 1)
        asm_registers(state.out, ASM_TEST, reg, reg, True)
        exits_add(exits, asm_jump_if(state.out, ASM_E))
    state.depth -= 1


cdef int predicate_emit(emitter_t *out, const hitcode_t *what, const hitplace_t *at, const hitframe_t *frame,
                        exits_t *exits) noexcept nogil:
    cdef compiler_t state
    cdef uint64_t code
    cdef uint32_t i, needed
    cdef bint to_flags
    state.out = out
    state.frame = frame
    state.depth = 0
    state.status = STATUS_OK
    for i in range(what.op_count):
        code = what.ops[i].code
        # The next one takes a condition as it is.
        to_flags = i + 1 < what.op_count and what.ops[i + 1].code in (OP_TEST, OP_IS_ZERO)
        needed = 0 if code <= OP_TID else 1 if code <= OP_SIGN_32 or code == OP_TEST else 2
        if state.depth < needed or state.depth >= PREDICATE_DEPTH_MAX or code > OP_TEST:
            return STATUS_REFUSED
        if code == OP_CONSTANT:
            push_word(&state, WORD_CONSTANT, what.ops[i].value)
        elif code == OP_REGISTER:
            if what.ops[i].value >= 16:
                return STATUS_REFUSED
            push_word(&state, WORD_REGISTER, what.ops[i].value)
        elif code == OP_TID and at.tid_offset:
            asm_thread(out, ASM_LOAD, scratch_of(&state, state.depth), at.tid_offset, False)
            push_word(&state, WORD_SCRATCH, 0)
        elif code in (OP_STACK, OP_TID, OP_DIVIDE, OP_MODULO):
            return STATUS_REFUSED
        elif code == OP_TEST:
            emit_test(&state, exits)
        elif code == OP_IS_ZERO:
            emit_is_zero(&state, to_flags)
        elif needed == 1:
            emit_unary(&state, code)
        elif OP_SHIFT_LEFT <= code <= OP_SHIFT_SIGNED:
            emit_shift(&state, code)
        elif code >= OP_EQUAL:
            emit_compare(&state, code, to_flags)
        else:
            emit_binary(&state, code)
        if state.status:
            return state.status
    return STATUS_OK
