"""What can be asked of a hit by name: arguments, registers, words of the stack, the return value, the thread.

``arg0`` … by the System V ABI at a function's entry: six in registers, the others on the stack above the return address;
``rdi``, ``rsp`` …; ``retval``: rax, at a return; ``stack0``, ``stack1`` …: the 8 bytes at rsp, rsp + 8 …; ``tid``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from uprobe_core.abi import HIT_STACK_MAX
from uprobe_core.abi import predicate_code as code
from uprobe_core.trace.tracer import REGISTERS

GENERAL = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{number}" for number in range(8, 16)))
"""The general registers, by number."""
OTHER = 16
"""From here on a register's number is this and its place in REGISTERS: to be had at a stop only."""

_ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
_NUMBERED = re.compile(r"(arg|stack)(0|[1-9][0-9]{0,2})\Z")


class Operand(NamedTuple):
    """What a name stands for: an operation that pushes it, and that operation's value."""

    code: int
    value: int


def find_operand(name: str) -> Operand | None:
    """What `name` stands for; None: there is no such name."""
    if numbered := _NUMBERED.match(name):
        number = int(numbered[2])
        if numbered[1] == "arg":
            if number < len(_ARGUMENTS):
                return Operand(code.OP_REGISTER, GENERAL.index(_ARGUMENTS[number]))
            number += 1 - len(_ARGUMENTS)
        return Operand(code.OP_STACK, number) if number < HIT_STACK_MAX else None
    if name == "tid":
        return Operand(code.OP_TID, 0)
    if name == "retval":
        name = "rax"
    if name in GENERAL:
        return Operand(code.OP_REGISTER, GENERAL.index(name))
    if name in REGISTERS:
        return Operand(code.OP_REGISTER, OTHER + REGISTERS.index(name))
    return None
