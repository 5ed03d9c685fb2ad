"""What the loader will write where, and the restartable sequences whose table it fills in that way."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from uprobes.symbols.elf import SHF_ALLOC

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uprobes.symbols.elf import ElfFile

RELOCATION = struct.Struct("<QIIq")
"""Elf64_Rela: address, type (the low half of r_info), symbol index, addend."""
ADDEND_OFFSET = 16
DT_PLTRELSZ, DT_RELA, DT_RELASZ, DT_JMPREL = 2, 7, 8, 23
DT_RELRSZ, DT_RELR = 35, 36
_ADDRESS = struct.Struct("<Q")
R_64, R_GLOB_DAT, R_JUMP_SLOT, R_RELATIVE, R_IRELATIVE = 1, 6, 7, 8, 37

SHT_RELA = 4

RSEQ_SECTION = "__rseq_cs"
_RSEQ = struct.Struct("<IIQQQ")


class Relocation(NamedTuple):
    """One place that the loader writes."""

    vaddr: int
    type: int
    symbol: int
    addend: int


class RestartableSequence(NamedTuple):
    """Code that the kernel sends to `abort_vaddr` if it is interrupted from `start_vaddr` to `end_vaddr`."""

    start_vaddr: int
    end_vaddr: int
    abort_vaddr: int


def read_relocations(elf: ElfFile) -> Iterator[Relocation]:
    """Those of data and of the linkage table, in file order."""
    for raw in relocation_tables(elf):
        yield from map(Relocation._make, RELOCATION.iter_unpack(raw[: len(raw) - len(raw) % RELOCATION.size]))


def relocation_tables(elf: ElfFile) -> Iterator[bytes]:
    """The records of each table, one after another."""
    if elf.dynamic:
        for table, size in ((DT_RELA, DT_RELASZ), (DT_JMPREL, DT_PLTRELSZ)):
            if table in elf.dynamic and size in elf.dynamic:
                yield elf.read(elf.dynamic[table][0], elf.dynamic[size][0])
    else:  # a static program relocates itself
        for section in elf.sections:
            if section.type == SHT_RELA and section.flags & SHF_ALLOC:
                yield elf.read_section(section)


def relative_places(elf: ElfFile) -> Iterator[int]:
    """The addresses of words to which the loader adds where it loaded the file, as compact tables (RELR) list them.

    An even entry is an address; an odd one a map of the 63 words that follow (gABI, "Relative Relocation Table").
    """
    if DT_RELR not in elf.dynamic or DT_RELRSZ not in elf.dynamic:
        return
    raw = elf.read(elf.dynamic[DT_RELR][0], elf.dynamic[DT_RELRSZ][0])
    following = 0
    for (entry,) in _ADDRESS.iter_unpack(raw[: len(raw) & ~7]):
        if not entry & 1:
            yield entry
            following = entry + 8
            continue
        yield from (following + 8 * bit for bit in range(63) if entry >> bit + 1 & 1)
        following += 8 * 63


def read_restartable_sequences(elf: ElfFile) -> tuple[RestartableSequence, ...]:
    """The sequences listed in the file, by address. A probe inside one would break its atomicity.

    The kernel's struct rseq_cs (uapi/linux/rseq.h): version, flags, start_ip, post_commit_offset, abort_ip.
    """
    section = elf.section(RSEQ_SECTION)
    if section is None:
        return ()
    raw = bytearray(elf.read_section(section))
    # in a position-independent file the addresses are still in the relocations
    for relocation in read_relocations(elf):
        place = relocation.vaddr - section.vaddr
        if relocation.type == R_RELATIVE and 0 <= place <= len(raw) - 8:
            struct.pack_into("<q", raw, place, relocation.addend)
    found = []
    for _, _, start, size, abort in _RSEQ.iter_unpack(raw[: len(raw) - len(raw) % _RSEQ.size]):
        if size:
            found.append(RestartableSequence(start, start + size, abort))
    return tuple(sorted(found))
