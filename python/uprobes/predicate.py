"""``when=``: an expression over the arguments and registers of a hit, as ``arg2 > 4096 and arg0 != 0``.

Values are 64-bit unsigned integers, as C has them: sums wrap, ``>>`` brings in zeros, a shift's count is taken modulo 64,
``//`` and ``%`` by 0 give 0. Names: see ``uprobes.operand``. Operators: ``and or not``, comparisons (chains too),
``+ - * // % & | ^ << >> ~``. ``u8 u16 u32 i8 i16 i32 i64 (…)`` take the low bits, as a C cast does; ``i…`` also makes what is
computed with it signed: ``i32(arg1) < 0``.

The text becomes a program for a small stack machine (enum predicate_code of the core's abi.h). The program is the one
definition of what the text means: Python runs it here, the tracer runs it at a stop, and where a hit stays inside the
target it is compiled to machine code.
"""

from __future__ import annotations

import ast
import operator
from typing import TYPE_CHECKING, NamedTuple

from uprobe_core.abi import PREDICATE_DEPTH_MAX, PREDICATE_OPS_MAX
from uprobe_core.abi import predicate_code as code
from uprobe_core.trace.tracer import REGISTERS
from uprobes.errors import PredicateError
from uprobes.operand import GENERAL, OTHER, find_operand

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from uprobes.hit import Hit

_BITS = 64
_MASK = (1 << _BITS) - 1


def _signed(value: int, bits: int = _BITS) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


_UNARY: dict[int, Callable[[int], int]] = {
    code.OP_INVERT: operator.invert,
    code.OP_NEGATE: operator.neg,
    code.OP_IS_ZERO: operator.not_,
    code.OP_SIGN_8: lambda a: _signed(a, 8),
    code.OP_SIGN_16: lambda a: _signed(a, 16),
    code.OP_SIGN_32: lambda a: _signed(a, 32),
}
_BINARY: dict[int, Callable[[int, int], int]] = {
    code.OP_ADD: operator.add,
    code.OP_SUBTRACT: operator.sub,
    code.OP_MULTIPLY: operator.mul,
    code.OP_DIVIDE: lambda a, b: a // b if b else 0,
    code.OP_MODULO: lambda a, b: a % b if b else 0,
    code.OP_AND: operator.and_,
    code.OP_OR: operator.or_,
    code.OP_XOR: operator.xor,
    code.OP_SHIFT_LEFT: lambda a, b: a << (b % _BITS),
    code.OP_SHIFT_RIGHT: lambda a, b: a >> (b % _BITS),
    code.OP_SHIFT_SIGNED: lambda a, b: _signed(a) >> (b % _BITS),
    code.OP_EQUAL: operator.eq,
    code.OP_UNEQUAL: operator.ne,
    code.OP_LESS: operator.lt,
    code.OP_LESS_EQUAL: operator.le,
    code.OP_GREATER: operator.gt,
    code.OP_GREATER_EQUAL: operator.ge,
    code.OP_LESS_SIGNED: lambda a, b: _signed(a) < _signed(b),
    code.OP_LESS_EQUAL_SIGNED: lambda a, b: _signed(a) <= _signed(b),
    code.OP_GREATER_SIGNED: lambda a, b: _signed(a) > _signed(b),
    code.OP_GREATER_EQUAL_SIGNED: lambda a, b: _signed(a) >= _signed(b),
}
_OPERATORS: dict[type[ast.operator], int] = {
    ast.Add: code.OP_ADD,
    ast.Sub: code.OP_SUBTRACT,
    ast.Mult: code.OP_MULTIPLY,
    ast.FloorDiv: code.OP_DIVIDE,
    ast.Mod: code.OP_MODULO,
    ast.BitAnd: code.OP_AND,
    ast.BitOr: code.OP_OR,
    ast.BitXor: code.OP_XOR,
    ast.LShift: code.OP_SHIFT_LEFT,
    ast.RShift: code.OP_SHIFT_RIGHT,
}
_COMPARE: dict[type[ast.cmpop], int] = {
    ast.Eq: code.OP_EQUAL,
    ast.NotEq: code.OP_UNEQUAL,
    ast.Lt: code.OP_LESS,
    ast.LtE: code.OP_LESS_EQUAL,
    ast.Gt: code.OP_GREATER,
    ast.GtE: code.OP_GREATER_EQUAL,
}
_TO_SIGNED = {
    code.OP_LESS: code.OP_LESS_SIGNED,
    code.OP_LESS_EQUAL: code.OP_LESS_EQUAL_SIGNED,
    code.OP_GREATER: code.OP_GREATER_SIGNED,
    code.OP_GREATER_EQUAL: code.OP_GREATER_EQUAL_SIGNED,
    code.OP_SHIFT_RIGHT: code.OP_SHIFT_SIGNED,
}
_CASTS = {
    "u8": (code.OP_AND, 0xFF),
    "u16": (code.OP_AND, 0xFFFF),
    "u32": (code.OP_AND, 0xFFFFFFFF),
    "i8": (code.OP_SIGN_8, None),
    "i16": (code.OP_SIGN_16, None),
    "i32": (code.OP_SIGN_32, None),
    "i64": None,
}
_AT_A_STOP = {code.OP_STACK, code.OP_DIVIDE, code.OP_MODULO}


class Op(NamedTuple):
    """One operation of a program."""

    code: int
    value: int = 0


class Predicate:
    """A compiled expression. Calling it with a hit tells whether it holds."""

    __slots__ = ("ops", "text")

    def __init__(self, text: str, ops: Sequence[Op]) -> None:
        """Made by ``compile_predicate``."""
        self.text = text
        self.ops = tuple(ops)

    @property
    def needs_stop(self) -> bool:
        """Whether it asks for what code inside the target does not do: division, the stack, the segment registers."""
        return any(
            op.code in _AT_A_STOP or (op.code == code.OP_REGISTER and op.value >= OTHER) for op in self.ops
        )

    @property
    def registers(self) -> list[int]:
        """The numbers of the registers that it asks for."""
        return sorted({op.value for op in self.ops if op.code == code.OP_REGISTER})

    def __call__(self, hit: Hit) -> bool:
        """Whether it holds for a hit."""

        def register(number: int) -> int:
            return int(getattr(hit.regs, GENERAL[number] if number < OTHER else REGISTERS[number - OTHER]))

        return evaluate(self.ops, register, lambda word: hit.memory.read_word(hit.regs.rsp + 8 * word), hit.tid)


def evaluate(
    ops: Sequence[Op], register: Callable[[int], int], stack: Callable[[int], int] | None = None, tid: int = 0
) -> bool:
    """Run a program. `register`: the value of a register by number; `stack`: of a word above rsp."""
    words: list[int] = []
    for op, value in ops:
        if op == code.OP_TEST:
            if not words.pop():
                return False
        elif op == code.OP_CONSTANT:
            words.append(value)
        elif op == code.OP_REGISTER:
            words.append(register(value))
        elif op == code.OP_TID:
            words.append(tid)
        elif op == code.OP_STACK:
            words.append(stack(value) if stack else 0)
        else:
            words.append(_apply(op, words))
    return True


def _apply(op: int, words: list[int]) -> int:
    """The result of an operation on the topmost words, which are taken off."""
    right = words.pop()
    if op in _UNARY:
        return int(_UNARY[op](right)) & _MASK
    return int(_BINARY[op](words.pop(), right)) & _MASK


def compile_predicate(text: str) -> Predicate:
    """What `text` means. PredicateError tells what in `text` is not understood."""
    try:
        tree = ast.parse(text, mode="eval").body
        compiler = _Compiler(text)
        compiler.require(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, PredicateError):
            raise
        position = (getattr(error, "offset", None) or 1) - 1
        raise PredicateError(text, position, "not an expression", hint="as arg2 > 4096 and arg0 != 0") from None
    if len(compiler.ops) > PREDICATE_OPS_MAX or compiler.depth > PREDICATE_DEPTH_MAX:
        raise PredicateError(
            text, 0, f"{len(compiler.ops)} operations, {compiler.depth} deep",
            hint=f"at most {PREDICATE_OPS_MAX} operations, {PREDICATE_DEPTH_MAX} deep",
        )
    return Predicate(text, compiler.ops)


class _Compiler:
    """Turns a tree into a program. Each method that compiles a value tells whether that value is a signed one; None: a
    constant, which is either."""

    def __init__(self, text: str) -> None:
        self.ops: list[Op] = []
        self.depth = 0
        self._text = text
        self._now = 0

    def require(self, node: ast.expr) -> None:
        """Code that goes on where `node` is true."""
        match node:
            case ast.BoolOp(op=ast.And(), values=values):
                for value in values:
                    self.require(value)
            case ast.Compare(left=left, ops=ops, comparators=others) if len(ops) > 1:
                for pair in self._pairs(left, ops, others):
                    self.require(pair)
            case _:
                self.truth(node)
                self._emit(code.OP_TEST)

    def truth(self, node: ast.expr) -> None:
        """Push other than 0 where `node` is true."""
        match node:
            case ast.BoolOp(op=ast.Or(), values=values):
                self._join(code.OP_OR, values, self.truth)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                self.truth(operand)
                self._emit(code.OP_IS_ZERO)
            case _:
                self.value(node)

    def bit(self, node: ast.expr) -> None:
        """Push 1 where `node` is true, else 0."""
        match node:
            case ast.BoolOp(op=ast.And(), values=values):
                self._join(code.OP_AND, values, self.bit)
            case ast.Compare(left=left, ops=ops, comparators=others) if len(ops) > 1:
                self._join(code.OP_AND, self._pairs(left, ops, others), self.bit)
            case ast.Compare() | ast.UnaryOp(op=ast.Not()):
                self.value(node)
            case _:
                self.truth(node)
                self._emit(code.OP_IS_ZERO)
                self._emit(code.OP_IS_ZERO)

    def value(self, node: ast.expr) -> bool | None:
        """Push the value of `node`."""
        match node:
            case ast.Constant(value=int() as constant):
                return self._constant(constant, node)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as constant)):
                return self._constant(-constant, node)
            case ast.Name(id=name):
                return self._name(name, node)
            case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in _CASTS:
                return self._cast(name, argument)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return self._binary(_OPERATORS[type(op)], left, right, node)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.value(operand)
            case ast.UnaryOp(op=ast.USub() | ast.Invert() as op, operand=operand):
                signed = self.value(operand)
                self._emit(code.OP_NEGATE if isinstance(op, ast.USub) else code.OP_INVERT)
                return signed
            case ast.UnaryOp(op=ast.Not()):
                self.truth(node)
                return False
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
                return self._compare(_COMPARE[type(op)], left, right, node)
            case ast.BoolOp() | ast.Compare() if not isinstance(node, ast.Compare) or len(node.ops) > 1:
                self.bit(node)
                return False
        what = type(node).__name__.lower()
        raise PredicateError(
            self._text, node.col_offset, f"{what} is not understood", hint="integers, argN, registers, tid, and operators"
        )

    def _constant(self, value: int, node: ast.expr) -> bool | None:
        if not -(1 << (_BITS - 1)) <= value <= _MASK:
            raise PredicateError(self._text, node.col_offset, f"{value} does not fit in 64 bits", hint="mask it")
        self._emit(code.OP_CONSTANT, value & _MASK)
        return None

    def _name(self, name: str, node: ast.expr) -> bool:
        operand = find_operand(name)
        if operand is None:
            raise PredicateError(
                self._text, node.col_offset, f"no such name: {name}",
                hint="argN, stackN, retval, tid, or a register as rdi",
            )
        self._emit(*operand)
        return False

    def _cast(self, name: str, argument: ast.expr) -> bool:
        self.value(argument)
        match _CASTS[name]:
            case (op, None):
                self._emit(op)
            case (op, int() as mask):
                self._emit(code.OP_CONSTANT, mask)
                self._emit(op)
        return name.startswith("i")

    def _binary(self, op: int, left: ast.expr, right: ast.expr, node: ast.expr) -> bool | None:
        first = self.value(left)
        second = self.value(right)
        signed = first or second
        if op in (code.OP_DIVIDE, code.OP_MODULO):
            if signed:
                raise PredicateError(
                    self._text, node.col_offset, "division of signed values", hint="shift, or compare products"
                )
            divisor = self.ops[-1].value if self.ops[-1].code == code.OP_CONSTANT else 0
            if divisor and not divisor & (divisor - 1):
                # By a power of two: what every mode can do.
                self.ops.pop()
                self._now -= 1
                by_shift = op == code.OP_DIVIDE
                self._emit(code.OP_CONSTANT, divisor.bit_length() - 1 if by_shift else divisor - 1)
                op = code.OP_SHIFT_RIGHT if by_shift else code.OP_AND
        if op == code.OP_SHIFT_RIGHT and first:
            op = code.OP_SHIFT_SIGNED
        self._emit(op)
        if op in (code.OP_SHIFT_LEFT, code.OP_SHIFT_RIGHT, code.OP_SHIFT_SIGNED):
            return first
        return signed if first is not None or second is not None else None

    def _compare(self, op: int, left: ast.expr, right: ast.expr, node: ast.expr) -> bool:
        signed = False
        for each in (left, right):
            signed = bool(self.value(each)) or signed
        if op in _TO_SIGNED:
            if not signed and any(_is_negative(each) for each in (left, right)):
                raise PredicateError(
                    self._text, node.col_offset, "values are unsigned: none is below 0",
                    hint="i64(arg0) < 0, or i32(arg0) < 0 for an int",
                )
            op = _TO_SIGNED[op] if signed else op
        self._emit(op)
        return False

    @staticmethod
    def _pairs(left: ast.expr, ops: list[ast.cmpop], others: list[ast.expr]) -> list[ast.expr]:
        """The comparisons of a chain, one by one."""
        return [
            ast.copy_location(ast.Compare(left=a, ops=[op], comparators=[b]), a)
            for a, op, b in zip([left, *others], ops, others, strict=False)
        ]

    def _join(self, op: int, nodes: Sequence[ast.expr], compile_one: Callable[[ast.expr], None]) -> None:
        compile_one(nodes[0])
        for node in nodes[1:]:
            compile_one(node)
            self._emit(op)

    def _emit(self, op: int, value: int = 0) -> None:
        """Append an operation; one on constants only is done now."""
        operands = 1 if op in _UNARY else 2 if op in _BINARY else 0
        tail = self.ops[len(self.ops) - operands :] if operands else []
        if operands and len(tail) == operands and all(each.code == code.OP_CONSTANT for each in tail):
            del self.ops[len(self.ops) - operands :]
            self.ops.append(Op(code.OP_CONSTANT, _apply(op, [each.value for each in tail])))
        else:
            self.ops.append(Op(op, value))
        self._now += 1 - operands if op != code.OP_TEST else -1
        self.depth = max(self.depth, self._now)


def _is_negative(node: ast.expr) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant)
