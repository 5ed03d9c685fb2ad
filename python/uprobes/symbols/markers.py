"""Static markers (USDT): what sys/sdt.h leaves in .note.stapsdt.

A note has the marker's address, the address that .stapsdt.base had when it was written, the address of the
semaphore or 0, and three strings: provider, name, arguments as `SIZE@OPERAND`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uprobes.symbols.elf import c_string

if TYPE_CHECKING:
    from uprobes.symbols.elf import ElfFile

_ADDRESSES = struct.Struct("<QQQ")
OWNER = "stapsdt"


@dataclass(frozen=True, slots=True)
class Marker:
    """A place that the program's author marked: a nop, and where its arguments are at that moment."""

    provider: str
    name: str
    vaddr: int
    semaphore_vaddr: int
    """A 16-bit count of listeners, which the program tests before it computes the arguments; 0: none."""
    arguments: str
    """As `-4@%edi 8@-8(%rbp)`: signed four bytes in edi, eight bytes in memory."""


def read_markers(elf: ElfFile) -> tuple[Marker, ...]:
    """All markers of a file, in file order; one marker may stand in several places."""
    section = elf.section(".note.stapsdt")
    if section is None:
        return ()
    base = elf.section(".stapsdt.base")
    markers = []
    for owner, _, content in elf.notes(section.offset, section.size):
        if owner == OWNER and len(content) > _ADDRESSES.size:
            vaddr, base_then, semaphore = _ADDRESSES.unpack_from(content)
            # prelink moves sections, but not what notes say of them
            moved = base.vaddr - base_then if base and base_then else 0
            provider, name, arguments = _three_strings(content[_ADDRESSES.size :])
            semaphore_vaddr = semaphore + moved if semaphore else 0
            markers.append(Marker(provider, name, vaddr + moved, semaphore_vaddr, arguments))
    return tuple(markers)


def _three_strings(raw: bytes) -> tuple[str, str, str]:
    first = c_string(raw, 0)
    second = c_string(raw, raw.find(b"\0") + 1)
    third = c_string(raw, raw.find(b"\0", raw.find(b"\0") + 1) + 1)
    return first, second, third
