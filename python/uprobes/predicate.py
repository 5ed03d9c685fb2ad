"""``when=``: an expression over the arguments and registers of a hit, as ``arg2 > 4096 and arg0 != 0``.

Integers only. Names: ``arg0``, ``arg1`` … and the registers (``rdi``, ``rsp`` …), 64-bit unsigned, and ``tid``.
Operators: ``and or not``, comparisons (chains too), ``+ - * // % & | ^ << >> ~``.
"""

from __future__ import annotations

import ast
import operator
import re
from typing import TYPE_CHECKING, Any

from uprobe_core.trace.tracer import REGISTERS
from uprobes.errors import PredicateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from uprobes.hit import Hit

    Value = Callable[[Hit], int]

_ARGUMENT = re.compile(r"arg([0-9]{1,2})\Z")
_BINARY: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: lambda a, b: a // b if b else 0,
    ast.Mod: lambda a, b: a % b if b else 0,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: lambda a, b: a << (b & 63),
    ast.RShift: lambda a, b: a >> (b & 63),
}
_UNARY: dict[type[ast.unaryop], Callable[[int], int]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
    ast.Not: lambda a: int(not a),
}
_COMPARE: dict[type[ast.cmpop], Callable[[int, int], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def compile_predicate(text: str) -> Callable[[Hit], bool]:
    """A function of a hit that says whether `text` holds. PredicateError tells what in `text` is not understood."""
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        position = (getattr(error, "offset", None) or 1) - 1
        raise PredicateError(text, position, "not an expression", hint="as arg2 > 4096 and arg0 != 0") from None
    value = _compile(tree, text)
    return lambda hit: bool(value(hit))


def _compile(node: ast.expr, text: str) -> Value:
    match node:
        case ast.Constant(value=int() as constant):
            return lambda _hit: constant
        case ast.Name(id=name):
            return _name(name, node.col_offset, text)
        case ast.BoolOp(op=op, values=values):
            return _boolean(all if isinstance(op, ast.And) else any, [_compile(one, text) for one in values])
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _binary(_BINARY[type(op)], _compile(left, text), _compile(right, text))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _unary(_UNARY[type(op)], _compile(operand, text))
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARE for op in ops):
            return _chain([_COMPARE[type(op)] for op in ops], [_compile(one, text) for one in (left, *others)])
    what = type(node).__name__.lower()
    raise PredicateError(
        text, node.col_offset, f"{what} is not understood", hint="integers, argN, registers, tid, and operators"
    )


def _name(name: str, position: int, text: str) -> Value:
    if argument := _ARGUMENT.match(name):
        index = int(argument[1])
        return lambda hit: hit.args[index]
    if name == "tid":
        return lambda hit: hit.tid
    if name in REGISTERS:
        return operator.attrgetter(f"regs.{name}")
    raise PredicateError(text, position, f"no such name: {name}", hint="argN, tid, or a register as rdi")


def _boolean(combine: Callable[[Any], bool], values: list[Value]) -> Value:
    return lambda hit: int(combine(value(hit) for value in values))


def _binary(apply: Callable[[int, int], int], left: Value, right: Value) -> Value:
    return lambda hit: apply(left(hit), right(hit))


def _unary(apply: Callable[[int], int], operand: Value) -> Value:
    return lambda hit: apply(operand(hit))


def _chain(compares: list[Callable[[int, int], bool]], values: list[Value]) -> Value:
    def holds(hit: Hit) -> int:
        left = values[0](hit)
        for compare, value in zip(compares, values[1:], strict=True):
            right = value(hit)
            if not compare(left, right):
                return 0
            left = right
        return 1

    return holds
