"""Running predicates: see predicate.pxd."""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint32_t, uint64_t

from uprobe_core.abi cimport (
    FIELD_STACK, OP_ADD, OP_AND, OP_CONSTANT, OP_DIVIDE, OP_EQUAL, OP_GREATER, OP_GREATER_EQUAL, OP_GREATER_EQUAL_SIGNED,
    OP_GREATER_SIGNED, OP_INVERT, OP_IS_ZERO, OP_LESS, OP_LESS_EQUAL, OP_LESS_EQUAL_SIGNED, OP_LESS_SIGNED, OP_MODULO,
    OP_MULTIPLY, OP_NEGATE, OP_OR, OP_REGISTER, OP_SHIFT_LEFT, OP_SHIFT_RIGHT, OP_SHIFT_SIGNED, OP_SIGN_8, OP_SIGN_16,
    OP_SIGN_32, OP_STACK, OP_SUBTRACT, OP_TEST, OP_TID, OP_UNEQUAL, OP_XOR, PREDICATE_DEPTH_MAX, hitcode_t, regs_t,
)
from uprobe_core.x86.registers cimport regs_get


cdef uint32_t hitcode_stack_words(const hitcode_t *what) noexcept nogil:
    cdef uint32_t words = 0
    cdef uint32_t i
    for i in range(what.field_count):
        if what.fields[i].kind == FIELD_STACK and what.fields[i].word >= words:
            words = what.fields[i].word + 1
    for i in range(what.op_count):
        if what.ops[i].code == OP_STACK and what.ops[i].value >= words:
            words = <uint32_t>what.ops[i].value + 1
    return words


cdef inline uint64_t register_value(const regs_t *regs, uint64_t number) noexcept nogil:
    if number < REGISTER_OTHER:
        return regs_get(regs, <unsigned int>number)
    if number - REGISTER_OTHER < sizeof(regs_t) // sizeof(uint64_t):
        return (<const uint64_t *>regs)[number - REGISTER_OTHER]
    return 0


cdef inline uint64_t apply_unary(uint64_t code, uint64_t value) noexcept nogil:
    if code == OP_INVERT:
        return ~value
    if code == OP_NEGATE:
        return 0 - value
    if code == OP_IS_ZERO:
        return value == 0
    if code == OP_SIGN_8:
        return <uint64_t><int64_t><int8_t>value
    if code == OP_SIGN_16:
        return <uint64_t><int64_t><int16_t>value
    return <uint64_t><int64_t><int32_t>value


cdef inline uint64_t apply_arithmetic(uint64_t code, uint64_t left, uint64_t right) noexcept nogil:
    if code == OP_ADD:
        return left + right
    if code == OP_SUBTRACT:
        return left - right
    if code == OP_MULTIPLY:
        return left * right
    if code == OP_DIVIDE:
        return left // right if right else 0
    if code == OP_MODULO:
        return left % right if right else 0
    if code == OP_AND:
        return left & right
    if code == OP_OR:
        return left | right
    if code == OP_XOR:
        return left ^ right
    if code == OP_SHIFT_LEFT:
        return left << (right & 63)
    if code == OP_SHIFT_RIGHT:
        return left >> (right & 63)
    return <uint64_t>(<int64_t>left >> (right & 63))


cdef inline bint apply_comparison(uint64_t code, uint64_t left, uint64_t right) noexcept nogil:
    if code == OP_EQUAL:
        return left == right
    if code == OP_UNEQUAL:
        return left != right
    if code == OP_LESS:
        return left < right
    if code == OP_LESS_EQUAL:
        return left <= right
    if code == OP_GREATER:
        return left > right
    if code == OP_GREATER_EQUAL:
        return left >= right
    if code == OP_LESS_SIGNED:
        return <int64_t>left < <int64_t>right
    if code == OP_LESS_EQUAL_SIGNED:
        return <int64_t>left <= <int64_t>right
    if code == OP_GREATER_SIGNED:
        return <int64_t>left > <int64_t>right
    return <int64_t>left >= <int64_t>right


cdef bint predicate_holds(const hitcode_t *what, const regs_t *regs, const uint64_t *stack, uint32_t tid) noexcept nogil:
    cdef uint64_t words[PREDICATE_DEPTH_MAX]
    cdef uint64_t code, value
    cdef uint32_t depth = 0
    cdef uint32_t i, needed
    for i in range(what.op_count):
        code = what.ops[i].code
        value = what.ops[i].value
        needed = 0 if code <= OP_TID else 1 if code <= OP_SIGN_32 or code == OP_TEST else 2
        if depth < needed or depth - needed >= PREDICATE_DEPTH_MAX or code > OP_TEST:
            return False
        if code == OP_CONSTANT:
            words[depth] = value
        elif code == OP_REGISTER:
            words[depth] = register_value(regs, value)
        elif code == OP_STACK:
            words[depth] = stack[value]
        elif code == OP_TID:
            words[depth] = tid
        elif code == OP_TEST:
            depth -= 1
            if not words[depth]:
                return False
            continue
        elif needed == 1:
            words[depth - 1] = apply_unary(code, words[depth - 1])
            continue
        elif code < OP_EQUAL:
            depth -= 1
            words[depth - 1] = apply_arithmetic(code, words[depth - 1], words[depth])
            continue
        else:
            depth -= 1
            words[depth - 1] = apply_comparison(code, words[depth - 1], words[depth])
            continue
        depth += 1
    return True
