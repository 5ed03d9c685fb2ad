"""Where functions begin and end by their unwind entries, which stripped files keep as well.

Layout: Linux Standard Base, "Exception Frames": .eh_frame_hdr is a table of (first address, entry) sorted for
binary search; an entry (FDE) in .eh_frame has the length, and its encoding is in the entry's parent (CIE).
Entries are read one by one on demand; only a file without the table is read through.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from contextlib import suppress
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from uprobes.symbols.elf import PT_GNU_EH_FRAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uprobes.symbols.elf import ElfFile

# DW_EH_PE: low four bits the format, the next three what it is relative to.
PE_OMIT = 0xFF
PE_PC_RELATIVE, PE_DATA_RELATIVE = 0x10, 0x30
PE_ABSOLUTE = 0x00
PE_COMMON = 0x1B  # relative to itself, four signed bytes
PE_SEARCHABLE = 0x3B  # data-relative, four signed bytes: the one form that every linker writes
_FORMATS = {
    0x00: struct.Struct("<Q"),
    0x02: struct.Struct("<H"),
    0x03: struct.Struct("<I"),
    0x04: struct.Struct("<Q"),
    0x0A: struct.Struct("<h"),
    0x0B: struct.Struct("<i"),
    0x0C: struct.Struct("<q"),
}
_ADDRESS_MASK = (1 << 64) - 1
_COMMON_FDE = struct.Struct("<IIiI")


class _Unreadable(Exception):  # noqa: N818 (never leaves this file)
    """An entry of a form that no compiler writes, or past the end."""


class _Parsed(NamedTuple):
    """Where an entry's content starts and the next entry, and its parent's offset, or None in a CIE."""

    content: int
    following: int
    parent: int | None


class FrameTable:
    """The unwind entries of a file. Damaged entries are left out: an address without one has no start."""

    def __init__(self, elf: ElfFile) -> None:
        """Reads nothing yet."""
        self._elf = elf
        self._encodings: dict[int, int] = {}
        self._language_encodings: dict[int, int] = {}  # of the parents whose entries may have handlers of exceptions

    # ---- queries ----

    @cached_property
    def starts(self) -> list[int]:
        """First addresses of all entries, sorted."""
        return [start for start, _ in self._index]

    def extent_at(self, vaddr: int) -> tuple[int, int] | None:
        """The half-open range of the entry that covers `vaddr`."""
        place = bisect_right(self.starts, vaddr) - 1
        if place < 0:
            return None
        extent = self._extent(self._index[place][1])
        return extent if extent and extent[0] <= vaddr < extent[1] else None

    def extents(self) -> Iterator[tuple[int, int]]:
        """All ranges, by rising start; those of code that the linker dropped are left out."""
        for start, offset in self._index:
            extent = self._extent(offset)
            if extent and extent[0] == start and extent[1] > start:
                yield extent

    def handler_tables(self) -> Iterator[tuple[int, int]]:
        """First address of each function that handles exceptions, and where its table of handlers (LSDA) is."""
        for _, offset in self._index:
            try:
                entry = self._parse(offset)
                if entry.parent is None:
                    continue
                start, size_place, encoding = self._read_start(entry.content, entry.parent)
                language = self._language_encodings.get(entry.parent, PE_OMIT)
                if language == PE_OMIT:
                    continue
                _, place = _leb(self._frames[1], size_place + _FORMATS[encoding & 0x0F].size)
                value = self._unpack(language & 0x0F, place)
            except (_Unreadable, IndexError):
                continue
            if value:
                relative = self._frames[0] + place if language & 0x70 == PE_PC_RELATIVE else 0
                yield start, (value + relative) & _ADDRESS_MASK

    def begins_framed(self, start: int) -> bool:
        """Whether the code at `start`, where an entry begins, runs in a frame that other code has made.

        So do the parts that compilers move away from a function. A function itself begins with the return address on
        top of the stack: the canonical frame address is rsp+8, as the entry's parent says.
        """
        place = bisect_right(self.starts, start) - 1
        if place < 0 or self._index[place][0] != start:
            return False
        try:
            entry = self._parse(self._index[place][1])
            if entry.parent is None:
                return False
            _, size_place, encoding = self._read_start(entry.content, entry.parent)
            return _changes_frame(self._frames[1], self._program(entry, size_place, encoding), entry.following)
        except (_Unreadable, IndexError):
            return False

    def _program(self, entry: _Parsed, size_place: int, encoding: int) -> int:
        """Where an entry's instructions begin: after its length and, if it has any, its augmentation."""
        raw = self._frames[1]
        place = size_place + _FORMATS[encoding & 0x0F].size
        if entry.parent is None or raw[self._parse(entry.parent).content + 1] != ord("z"):
            return place
        length, place = _leb(raw, place)
        return place + length

    # ---- the search table ----

    @cached_property
    def _index(self) -> list[tuple[int, int]]:
        """First address and offset in .eh_frame of every entry, sorted."""
        table = self._read_search_table()
        return sorted(self._scan()) if table is None else table

    def _read_search_table(self) -> list[tuple[int, int]] | None:
        header = self._elf.segment(PT_GNU_EH_FRAME)
        if header is None:
            return None
        raw = self._elf.read(header.vaddr, header.file_size)
        if len(raw) < 12 or raw[0] != 1 or raw[1] & 0x0F != 0x0B or raw[2] != 0x03 or raw[3] != PE_SEARCHABLE:
            return None
        count = struct.unpack_from("<I", raw, 8)[0]
        pairs = memoryview(raw)[12 : 12 + count * 8]
        pairs = pairs[: len(pairs) & ~7].cast("i")
        base, frames = header.vaddr, self._frames[0]
        starts = [base + start for start in pairs[0::2].tolist()]
        offsets = [base + entry - frames for entry in pairs[1::2].tolist()]
        index = list(zip(starts, offsets, strict=True))
        return index if all(a <= b for a, b in pairwise(starts)) else sorted(index)

    @cached_property
    def _frames(self) -> tuple[int, bytes]:
        """Address and bytes of .eh_frame."""
        section = self._elf.section(".eh_frame")
        if section is not None:
            return section.vaddr, self._elf.read(section.vaddr, section.size)
        header = self._elf.segment(PT_GNU_EH_FRAME)
        if header is None:
            return 0, b""
        # without section headers: the search table points to it, and it ends where it says so
        raw = self._elf.read(header.vaddr, 8)
        if len(raw) < 8 or raw[1] != PE_PC_RELATIVE | 0x0B:
            return 0, b""
        vaddr = header.vaddr + 4 + struct.unpack_from("<i", raw, 4)[0]
        return vaddr, self._elf.read(vaddr, 1 << 30)

    # ---- entries ----

    def _scan(self) -> Iterator[tuple[int, int]]:
        """Every entry, one after the other."""
        offset = 0
        while True:
            try:
                entry = self._parse(offset)
            except _Unreadable:
                return
            with suppress(_Unreadable):
                if entry.parent is not None:
                    yield self._read_start(entry.content, entry.parent)[0], offset
            offset = entry.following

    def _parse(self, offset: int) -> _Parsed:
        raw = self._frames[1]
        length = self._unpack(0x03, offset)
        content = offset + 4
        if length == 0xFFFFFFFF:
            length = self._unpack(0x04, content)
            content += 8
        if length == 0:  # the terminator
            raise _Unreadable
        following = content + length
        if offset < 0 or following > len(raw):
            raise _Unreadable
        back = self._unpack(0x03, content)
        return _Parsed(content + 4, following, content - back if back else None)

    def _extent(self, offset: int) -> tuple[int, int] | None:
        frames_vaddr, raw = self._frames
        try:
            if 0 <= offset <= len(raw) - 16:  # the form of nearly every entry, in one go
                length, back, relative, size = _COMMON_FDE.unpack_from(raw, offset)
                if back and length < 0xFFFFFFFF and self._encoding(offset + 4 - back) == PE_COMMON:
                    start = frames_vaddr + offset + 8 + relative
                    return start, start + size
            entry = self._parse(offset)
            if entry.parent is None:
                return None
            start, place, encoding = self._read_start(entry.content, entry.parent)
            size = self._unpack(encoding & 0x07, place)  # a length: same width, unsigned
        except _Unreadable:
            return None
        return start, start + size

    def _read_start(self, content: int, parent: int) -> tuple[int, int, int]:
        """The first address, where the length stands, and the encoding of both."""
        encoding = self._encoding(parent)
        value = self._unpack(encoding & 0x0F, content)
        if encoding & 0x70 == PE_PC_RELATIVE:
            value += self._frames[0] + content
        return value & _ADDRESS_MASK, content + _FORMATS[encoding & 0x0F].size, encoding

    def _encoding(self, parent: int) -> int:
        """How a CIE's entries write their addresses."""
        if parent not in self._encodings:
            self._encodings[parent] = self._read_encoding(parent)
        encoding = self._encodings[parent]
        if encoding & 0x0F not in _FORMATS or encoding & 0x70 not in (PE_ABSOLUTE, PE_PC_RELATIVE):
            raise _Unreadable
        return encoding

    def _read_encoding(self, offset: int) -> int:
        raw = self._frames[1]
        try:
            entry = self._parse(offset)
        except _Unreadable:
            return PE_OMIT
        if entry.parent is not None:
            return PE_OMIT
        version = raw[entry.content] if entry.content < len(raw) else 0
        end = raw.find(b"\0", entry.content + 1)
        augmentation = raw[entry.content + 1 : max(end, 0)]
        if not augmentation.startswith(b"z"):
            return PE_ABSOLUTE
        place = _skip_leb(raw, _skip_leb(raw, end + 1))  # code and data alignment
        place = place + 1 if version == 1 else _skip_leb(raw, place)  # return address column
        place = _skip_leb(raw, place)  # length of what follows
        encoding = PE_ABSOLUTE
        for letter in augmentation[1:]:
            if place >= len(raw):
                return PE_OMIT
            if letter == ord("R"):
                encoding = raw[place]
                place += 1
            elif letter == ord("L"):
                self._language_encodings[offset] = raw[place]
                place += 1
            elif letter == ord("P"):
                width = _FORMATS.get(raw[place] & 0x0F)
                if width is None:
                    return PE_OMIT
                place += 1 + width.size
            elif letter not in b"SB":  # signal frame, pointer authentication: no bytes
                return PE_OMIT
        return encoding

    def _unpack(self, format_: int, offset: int) -> int:
        raw = self._frames[1]
        shape = _FORMATS.get(format_)
        if shape is None or not 0 <= offset <= len(raw) - shape.size:
            raise _Unreadable
        value: int = shape.unpack_from(raw, offset)[0]
        return value


def _skip_leb(raw: bytes, place: int) -> int:
    """The place after a LEB128 number."""
    return _leb(raw, place)[1]


def _leb(raw: bytes, place: int) -> tuple[int, int]:
    """An unsigned LEB128 number and the place after it."""
    value = shift = 0
    while place < len(raw) and raw[place] & 0x80:
        value |= (raw[place] & 0x7F) << shift
        shift += 7
        place += 1
    return (value | raw[place] << shift if place < len(raw) else value), place + 1


# Call frame instructions (DWARF 5, section 7.24) by how many numbers follow. The three with operands in their own
# byte (advance_loc, offset, restore) are told by the two highest bits.
_CFA_OPERANDS = {0x00: 0, 0x05: 2, 0x06: 1, 0x07: 1, 0x08: 1, 0x09: 2, 0x0A: 0, 0x0B: 0, 0x11: 2, 0x2E: 1}
_DEF_CFA, _DEF_CFA_OFFSET = 0x0C, 0x0E
_DEF_CFA_OTHERWISE = (0x0D, 0x0F, 0x12, 0x13)
_RSP, _RETURN_ADDRESS = 7, 8


def _changes_frame(raw: bytes, place: int, end: int) -> bool:
    """Whether the instructions for an entry's first address say that the frame is not that of a function's start."""
    while place < end:
        opcode = raw[place]
        place += 1
        if opcode == _DEF_CFA:
            register, place = _leb(raw, place)
            return (register, _leb(raw, place)[0]) != (_RSP, _RETURN_ADDRESS)
        if opcode == _DEF_CFA_OFFSET:
            return _leb(raw, place)[0] != _RETURN_ADDRESS
        if opcode in _DEF_CFA_OTHERWISE:
            return True
        count = 1 if opcode >> 6 == 2 else 0 if opcode >> 6 == 3 else _CFA_OPERANDS.get(opcode)
        if count is None:  # the next address
            return False
        for _ in range(count):
            place = _skip_leb(raw, place)
    return False
