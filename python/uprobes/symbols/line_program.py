"""The line programs of .debug_line: headers and the state machine. DWARF 2 to 5, section 6.2 of each."""

from __future__ import annotations

import posixpath
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTENT_PATH, CONTENT_DIRECTORY = 1, 2
FORM_STRING, FORM_BLOCK, FORM_STRP, FORM_UDATA, FORM_LINE_STRP = 0x08, 0x09, 0x0E, 0x0F, 0x1F
_FIXED_FORMS = {0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x1E: 16}  # data1, data2, data4, data8, data16

EXTENDED, COPY, ADVANCE_PC, ADVANCE_LINE, SET_FILE = 0, 1, 2, 3, 4
NEGATE_STATEMENT, CONST_ADD_PC, FIXED_ADVANCE_PC = 6, 8, 9
END_SEQUENCE, SET_ADDRESS = 1, 2

_ADDRESS_MASK = (1 << 64) - 1


class DwarfError(ValueError):
    """The section ends in the middle of something, or has a form of which the size is unknown."""


class Row(NamedTuple):
    """A row of the line table: from `vaddr` on, up to the next row, the code is of that line of that file."""

    vaddr: int
    file: int
    """Index into the unit's files."""
    line: int
    is_statement: bool
    """Whether it is a good place for a breakpoint."""
    ends: bool
    """Whether no code follows."""


class Unit(NamedTuple):
    """A line program and what it takes to run it."""

    start: int
    end: int
    files: tuple[str, ...]
    """Paths as the compiler was given them; a number that no file has is an empty string."""
    instruction_size: int
    is_statement: bool
    line_base: int
    line_range: int
    operand_counts: bytes
    """Of the standard opcodes, beginning with opcode 1."""


class _Cursor:
    """A place in a section that moves on as it is read."""

    def __init__(self, raw: bytes, place: int, end: int) -> None:
        self.raw = raw
        self.place = place
        self.end = min(end, len(raw))
        self.offset_size = 4

    def take(self, size: int) -> bytes:
        place = self.place
        self.place += size
        if self.place > self.end:
            raise DwarfError("a line program header runs past its end")
        return self.raw[place : self.place]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def leb(self) -> int:
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def string(self) -> bytes:
        end = self.raw.find(b"\0", self.place, self.end)
        if end < 0:
            raise DwarfError("a name in a line program header has no end")
        text = self.raw[self.place : end]
        self.place = end + 1
        return text


class LineReader:
    """The line programs of one file. Methods raise :class:`DwarfError`."""

    def __init__(self, lines: bytes, line_strings: bytes, strings: bytes) -> None:
        """The contents of .debug_line, .debug_line_str and .debug_str."""
        self._lines = lines
        self._line_strings = line_strings
        self._strings = strings

    def units(self) -> Iterator[Unit]:
        """Every unit of a known version."""
        place = 0
        while place < len(self._lines):
            cursor = _Cursor(self._lines, place, len(self._lines))
            length = cursor.number(4)
            if length == 0xFFFFFFFF:
                cursor.offset_size = 8
                length = cursor.number(8)
            place = cursor.place + length
            if place > len(self._lines):
                raise DwarfError("a line program runs past the end of its section")
            cursor.end = place
            version = cursor.number(2)
            if 2 <= version <= 5:
                yield self._read_unit(cursor, version)

    def _read_unit(self, cursor: _Cursor, version: int) -> Unit:
        if version >= 5:
            cursor.take(2)  # address size, segment selector size
        header_size = cursor.number(cursor.offset_size)
        start = cursor.place + header_size
        instruction_size = cursor.number(1)
        if version >= 4:
            cursor.take(1)  # operations in an instruction: more than one only on VLIW machines
        is_statement = bool(cursor.number(1))
        line_base = struct.unpack("<b", cursor.take(1))[0]
        line_range = cursor.number(1)
        operand_counts = cursor.take(max(cursor.number(1), 1) - 1)
        if line_range == 0 or start > cursor.end:
            raise DwarfError("a line program header contradicts itself")
        files = self._read_files(cursor) if version >= 5 else _read_old_files(cursor)
        return Unit(
            start, cursor.end, files, instruction_size, is_statement, line_base, line_range, operand_counts
        )

    # ---- file names, version 5 ----

    def _read_files(self, cursor: _Cursor) -> tuple[str, ...]:
        directories = [_text(path) for path, _ in self._read_entries(cursor)]
        base = directories[0] if directories else ""
        directories = [posixpath.join(base, directory) for directory in directories]
        entries = self._read_entries(cursor)
        return tuple(_join(directories, number, path) for path, number in entries)

    def _read_entries(self, cursor: _Cursor) -> list[tuple[bytes, int]]:
        """Paths and directory numbers of a table that describes its own layout."""
        layout = [(cursor.leb(), cursor.leb()) for _ in range(cursor.number(1))]
        count = cursor.leb()
        if count and not layout:
            raise DwarfError("a file table has entries of no size")
        entries = []
        for _ in range(count):
            path, directory = b"", 0
            for content, form in layout:
                value = self._read_form(cursor, form)
                if content == CONTENT_PATH and isinstance(value, bytes):
                    path = value
                elif content == CONTENT_DIRECTORY and isinstance(value, int):
                    directory = value
            entries.append((path, directory))
        return entries

    def _read_form(self, cursor: _Cursor, form: int) -> bytes | int:
        if form == FORM_LINE_STRP:
            return _string_at(self._line_strings, cursor.number(cursor.offset_size))
        if form == FORM_STRP:
            return _string_at(self._strings, cursor.number(cursor.offset_size))
        if form == FORM_STRING:
            return cursor.string()
        if form == FORM_UDATA:
            return cursor.leb()
        if form == FORM_BLOCK:
            return cursor.take(cursor.leb())
        if form in _FIXED_FORMS:
            return cursor.number(_FIXED_FORMS[form])
        raise DwarfError(f"a file table has form {form:#x}, of unknown size")

    # ---- the state machine ----

    def rows(self, unit: Unit) -> Iterator[Row]:
        """Run a unit's program."""
        raw, place, end = self._lines, unit.start, unit.end
        opcode_base = len(unit.operand_counts) + 1
        line_base, line_range, step = unit.line_base, unit.line_range, unit.instruction_size
        vaddr, file, line, is_statement = 0, 1, 1, unit.is_statement
        while place < end:
            opcode = raw[place]
            place += 1
            if opcode >= opcode_base:
                advance, line_advance = divmod(opcode - opcode_base, line_range)
                vaddr = (vaddr + advance * step) & _ADDRESS_MASK
                line += line_base + line_advance
                yield Row(vaddr, file, line, is_statement, False)
            elif opcode == COPY:
                yield Row(vaddr, file, line, is_statement, False)
            elif opcode == ADVANCE_LINE:
                advance, place = _signed_leb(raw, place)
                line += advance
            elif opcode == ADVANCE_PC:
                advance, place = _leb(raw, place)
                vaddr = (vaddr + advance * step) & _ADDRESS_MASK
            elif opcode == SET_FILE:
                file, place = _leb(raw, place)
            elif opcode == NEGATE_STATEMENT:
                is_statement = not is_statement
            elif opcode == CONST_ADD_PC:
                vaddr = (vaddr + (255 - opcode_base) // line_range * step) & _ADDRESS_MASK
            elif opcode == FIXED_ADVANCE_PC:
                vaddr = (vaddr + int.from_bytes(raw[place : place + 2], "little")) & _ADDRESS_MASK
                place += 2
            elif opcode == EXTENDED:
                size, place = _leb(raw, place)
                extended = raw[place] if size and place < end else 0
                if extended == END_SEQUENCE:
                    yield Row(vaddr, file, line, is_statement, True)
                    vaddr, file, line, is_statement = 0, 1, 1, unit.is_statement
                elif extended == SET_ADDRESS:
                    vaddr = int.from_bytes(raw[place + 1 : place + size], "little") & _ADDRESS_MASK
                place += size
            else:  # columns, basic blocks, prologues, and what a later version may add
                for _ in range(unit.operand_counts[opcode - 1]):
                    _, place = _leb(raw, place)


def _read_old_files(cursor: _Cursor) -> tuple[str, ...]:
    """Version 2 to 4: two lists that end in an empty string. Files count from 1, directory 0 is not in it."""
    directories = [""]
    while directory := cursor.string():
        directories.append(_text(directory))
    files = [""]
    while path := cursor.string():
        files.append(_join(directories, cursor.leb(), path))
        cursor.leb()  # time of change
        cursor.leb()  # size
    return tuple(files)


def _join(directories: list[str], number: int, path: bytes) -> str:
    directory = directories[number] if number < len(directories) else ""
    return posixpath.normpath(posixpath.join(directory, _text(path)))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _string_at(table: bytes, offset: int) -> bytes:
    end = table.find(b"\0", offset)
    return table[offset : end if end >= 0 else len(table)]


def _leb(raw: bytes, place: int) -> tuple[int, int]:
    """An unsigned LEB128 number and the place after it."""
    value = shift = 0
    while True:
        if place >= len(raw):
            raise DwarfError("a line program ends in a number")
        byte = raw[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, place


def _signed_leb(raw: bytes, place: int) -> tuple[int, int]:
    """A signed LEB128 number and the place after it."""
    start = place
    value, place = _leb(raw, place)
    if raw[place - 1] & 0x40:
        value -= 1 << 7 * (place - start)
    return value, place
