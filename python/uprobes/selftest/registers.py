"""The kernel's struct user_regs_struct of x86-64 as bytes, by register name."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

REGISTERS = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi",
    "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
)  # fmt: skip
GENERAL = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))
REGISTERS_SIZE = len(REGISTERS) * 8

_FIRST_SELECTOR = 4
_LAYOUT = struct.Struct(f"<{len(REGISTERS)}Q")
_U64 = struct.Struct("<Q")
_OFFSETS = {name: index * 8 for index, name in enumerate(REGISTERS)}


def registers_pack(values: Mapping[str, int]) -> bytes:
    """Bytes of all registers; every name of REGISTERS must be there."""
    return _LAYOUT.pack(*(values[name] for name in REGISTERS))


def registers_unpack(content: bytes) -> dict[str, int]:
    """Registers by name."""
    return dict(zip(REGISTERS, _LAYOUT.unpack(content), strict=True))


def register_get(content: bytes, name: str) -> int:
    """One register."""
    (value,) = _U64.unpack_from(content, _OFFSETS[name])
    return int(value)


def register_set(content: bytes, name: str, value: int) -> bytes:
    """The same registers with one changed."""
    offset = _OFFSETS[name]
    return content[:offset] + _U64.pack(value) + content[offset + 8 :]


def selectors_normalise(content: bytes) -> bytes:
    """The same registers with every null data selector as 0: PTRACE_SETREGS makes 3 a 0, and refuses 1 and 2."""
    for name in ("ds", "es", "fs", "gs"):
        if register_get(content, name) < _FIRST_SELECTOR:
            content = register_set(content, name, 0)
    return content
