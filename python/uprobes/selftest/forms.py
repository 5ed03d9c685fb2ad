"""Instruction forms: prefixes × map × opcode × operand, as bytes. The decoder says which of them exist."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uprobes.selftest.sandbox import DATA_VADDR, SITE_IP
from uprobes.selftest.state import IMAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

LEGACY_PREFIXES = tuple(
    bytes.fromhex(text)
    for text in (
        "", "66", "f2", "f3", "48", "66 48", "f2 48", "f3 48", "f0", "f0 48", "f0 66", "44", "40", "67", "64", "65",
        "2e", "4f", "66 4f", "f3 4f", "48 66", "f2 f3", "66 f2", "3e", "67 48", "65 48", "66 f3", "67 64",
    )
)  # fmt: skip
LEGACY_MAPS = (b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a")
VEX_MAPS = (1, 2, 3)
EVEX_MAPS = (1, 2, 3, 5, 6)
EVEX_MODIFIERS = (0x48, 0x49, 0x28, 0x08, 0x58, 0xC9, 0x18, 0x0A, 0x2B)
_RELATIVE = {0xE8, 0xE9, 0xEB, *range(0x70, 0x80), *range(0xE0, 0xE4)}
_RETURNS = (0xC2, 0xC3)
_GROUP5 = 0xFF
_GROUP5_BRANCHES = (2, 4)
_IMMEDIATE = bytes.fromhex("13 01 00 00 00 00 00 00")
_TARGET = DATA_VADDR + IMAGE_SIZE // 2


@dataclass(frozen=True, slots=True)
class Operand:
    """A ModRM form: its name, and the bytes after the opcode for a value of ModRM.reg."""

    name: str
    mod_rm: int
    tail: bytes

    def bytes(self, reg: int) -> bytes:
        """ModRM, SIB and displacement."""
        return bytes([self.mod_rm | reg << 3]) + self.tail


OPERANDS = (
    Operand("register", 0xC1, b""),
    Operand("register 6", 0xC6, b""),
    Operand("base", 0x43, b"\x10"),  # [rbx+0x10]
    Operand("base and index", 0x44, b"\x4b\x20"),  # [rbx+rcx*2+0x20]
    Operand("stack", 0x44, b"\x24\xf0"),  # [rsp-0x10], in the red zone
    Operand("rip", 0x05, b"rip!"),
)


@dataclass(frozen=True, slots=True)
class Form:
    """One instruction at SITE_IP, followed by bytes that it does not use."""

    code: bytes
    control: bool = False
    """May follow a pointer: wants a state made for that."""


def _with_operand(head: bytes, operand: Operand | None, reg: int) -> bytes:
    if operand is None:
        return head + _IMMEDIATE
    code = head + operand.bytes(reg)
    if operand.name == "rip":
        # An immediate follows and moves the end of the instruction: a few bytes do not matter.
        code = code[:-4] + struct.pack("<i", _TARGET - (SITE_IP + len(code)))
    return code + _IMMEDIATE


def _legacy(rng: random.Random) -> Form:
    opcode_map, opcode = rng.choice(LEGACY_MAPS), rng.randrange(256)
    head = rng.choice(LEGACY_PREFIXES) + opcode_map + bytes([opcode])
    operand: Operand | None = rng.choice((None, *OPERANDS, OPERANDS[-1]))
    if (opcode_map == b"" and opcode in _RELATIVE) or (opcode_map == b"\x0f" and opcode >> 4 == 8):
        operand = None  # its displacement is an immediate, which leads to an int3
    reg = rng.randrange(8)
    control = opcode_map == b"" and (opcode in _RETURNS or (opcode == _GROUP5 and reg in _GROUP5_BRANCHES))
    return Form(_with_operand(head, operand, reg), control)


def _vex(rng: random.Random) -> Form:
    third = rng.choice((0, 0x80)) | (~rng.choice((0, 2, 6, 7)) & 15) << 3 | rng.choice((0, 4)) | rng.randrange(4)
    head = bytes([0xC4, 0xE0 | rng.choice(VEX_MAPS), third, rng.randrange(256)])
    return Form(_with_operand(head, rng.choice((*OPERANDS, OPERANDS[-1])), rng.randrange(8)))


def _evex(rng: random.Random) -> Form:
    second = rng.choice((0, 0x80)) | (~rng.choice((0, 0, 6, 7)) & 15) << 3 | 4 | rng.randrange(4)
    head = bytes([0x62, 0xF0 | rng.choice(EVEX_MAPS), second, rng.choice(EVEX_MODIFIERS), rng.randrange(256)])
    return Form(_with_operand(head, rng.choice((*OPERANDS, OPERANDS[-1])), rng.randrange(8)))


def forms(seed: int) -> Iterator[Form]:
    """Endless distinct candidates, in an order drawn from the seed; many are no instruction."""
    rng = random.Random(seed)  # noqa: S311
    seen: set[bytes] = set()
    while True:
        form = rng.choice((_legacy, _legacy, _vex, _evex))(rng)
        if form.code not in seen:
            seen.add(form.code)
            yield form
