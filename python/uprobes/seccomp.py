"""Whether a system call would pass a thread's seccomp filters: classic BPF, run on the call before it is made.

seccomp(2): every filter of a thread runs on each call, and the strictest answer counts.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from uprobe_core.trace.tracer import Tracer

_INSTRUCTION: Final = struct.Struct("<HBBI")
_CALL: Final = struct.Struct("<iIQ6Q")  # struct seccomp_data: number, architecture, ip, arguments
_ARCHITECTURE: Final = 0xC000003E  # AUDIT_ARCH_X86_64
_WORD: Final = 0xFFFFFFFF
_ACTION: Final = 0xFFFF0000
_PASSING: Final = (0x7FFF0000, 0x7FFC0000)  # SECCOMP_RET_ALLOW, SECCOMP_RET_LOG
_SCRATCH_WORDS: Final = 16


class BadFilterError(ValueError):
    """No classic BPF program as the kernel takes for seccomp."""


def call_passes(filters: Sequence[bytes], number: int, arguments: Sequence[int], ip: int) -> bool:
    """Whether all filters let the call through. One that is not understood lets nothing through."""
    padded = [value & (1 << 64) - 1 for value in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    call = _CALL.pack(number, _ARCHITECTURE, ip, *padded)
    try:
        return all(run(code, call) & _ACTION in _PASSING for code in filters)
    except BadFilterError:
        return False


def run(code: bytes, call: bytes) -> int:
    """What a filter returns for a call (struct seccomp_data). BadFilterError."""
    program = list(_INSTRUCTION.iter_unpack(code))
    scratch = [0] * _SCRATCH_WORDS
    accumulator = index = at = 0
    while at < len(program):
        operation, if_true, if_false, constant = program[at]
        at += 1
        kind, operand = operation & 7, index if operation & 8 else constant
        if kind == 0 or kind == 1:  # LD, LDX
            value = _load(operation, constant, scratch, call)
            accumulator, index = (value, index) if kind == 0 else (accumulator, value)
        elif kind == 2 or kind == 3:  # ST, STX
            scratch[constant % _SCRATCH_WORDS] = accumulator if kind == 2 else index
        elif kind == 4:
            accumulator = _arithmetic(operation & 0xF0, accumulator, operand)
        elif kind == 5:
            taken = if_true if _holds(operation, accumulator, operand) else if_false
            at += constant if operation & 0xF0 == 0 else taken
        elif kind == 6:
            return accumulator if operation & 0x18 == 0x10 else constant
        elif operation & 0xF8 == 0x80:  # TXA
            accumulator = index
        else:  # TAX
            index = accumulator
    raise BadFilterError("it does not end in a return")


def _load(operation: int, constant: int, scratch: Sequence[int], call: bytes) -> int:
    mode = operation & 0xE0
    if mode == 0x20 and constant + 4 <= len(call):  # ABS
        return int.from_bytes(call[constant : constant + 4], "little")
    if mode == 0x60:  # MEM
        return scratch[constant % _SCRATCH_WORDS]
    if mode == 0x80:  # LEN
        return len(call)
    if mode == 0:  # IMM
        return constant
    raise BadFilterError(f"it loads from elsewhere: {operation:#x}")


def _arithmetic(operation: int, left: int, right: int) -> int:
    if operation in (0x30, 0x90) and right == 0:
        raise BadFilterError("it divides by zero")
    results = {
        0x00: lambda: left + right, 0x10: lambda: left - right, 0x20: lambda: left * right, 0x30: lambda: left // right,
        0x40: lambda: left | right, 0x50: lambda: left & right, 0x60: lambda: left << (right & 31),
        0x70: lambda: left >> (right & 31), 0x80: lambda: -left, 0x90: lambda: left % right, 0xA0: lambda: left ^ right,
    }  # fmt: skip
    if operation not in results:
        raise BadFilterError(f"it computes something else: {operation:#x}")
    return results[operation]() & _WORD


def _holds(operation: int, left: int, right: int) -> bool:
    comparison = operation & 0xF0
    if comparison == 0x10:
        return left == right
    if comparison == 0x20:
        return left > right
    if comparison == 0x30:
        return left >= right
    return bool(left & right)


class SeccompGate:
    """Which system calls the threads of a target may be asked for: none that a filter would kill, signal or refuse."""

    def __init__(self, tracer: Tracer, pid: int) -> None:
        """All is read when it is asked for: a thread may get a filter at any time, and never loses one."""
        self._tracer = tracer
        self._pid = pid
        self._known: dict[tuple[int, str], list[bytes]] = {}

    def passes(self, tid: int, number: int, arguments: Sequence[int]) -> bool:
        """Whether a call would go through. In the owner thread."""
        mode, count = self._state(tid)
        if mode == "0":
            return True
        if mode != "2":
            return False  # strict: read, write, exit and sigreturn
        if (tid, count) not in self._known:
            try:
                self._known[tid, count] = self._tracer.seccomp_filters(tid)
            except OSError:  # not root, or it does not stop: nothing is known, and nothing is risked
                return False
        return call_passes(self._known[tid, count], number, arguments, 0)

    def may_refuse(self, numbers: Iterable[int]) -> bool:
        """Whether some thread may not make one of these calls, with some arguments or other."""
        wanted = list(numbers)
        return any(
            self._state(tid)[0] != "0" and not all(self.passes(tid, number, ()) for number in wanted)
            for tid in self._tracer.tasks()
        )

    def _state(self, tid: int) -> tuple[str, str]:
        """The mode, and how many filters there are; no filter for a thread that is gone."""
        try:
            with open(f"/proc/{self._pid}/task/{tid}/status") as status:
                fields = dict(line.split(":", 1) for line in status)
        except OSError:
            return "0", ""
        return fields.get("Seccomp", "0").strip(), fields.get("Seccomp_filters", "").strip()
