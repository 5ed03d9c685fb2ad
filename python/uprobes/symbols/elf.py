"""An ELF file: its headers, what it loads where, and its bytes.

The header tables are arrays of fixed records, read whole: a process may have hundreds of modules, and their
load addresses need them all. What is rarer or intricate (notes, compressed sections) is left to pyelftools.
The layouts are those of the System V gABI, chapters 4 and 5.
"""

from __future__ import annotations

import io
import os
import struct
from contextlib import contextmanager
from enum import StrEnum
from functools import cached_property, partial
from typing import TYPE_CHECKING, NamedTuple, Self

from uprobes.errors import InvalidElf, UnsupportedTarget, UprobeError
from uprobes.symbols.source import FileSource, Source, SourceStream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from elftools.elf.elffile import ELFFile

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_DYNAMIC = struct.Struct("<qQ")

MACHINE_X86_64 = 62
MACHINE_NAMES = {3: "i386", 40: "arm", 62: "x86-64", 183: "aarch64", 243: "riscv"}

PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE, PT_GNU_EH_FRAME = 1, 2, 3, 4, 0x6474E550
PF_X, PF_W, PF_R = 1, 2, 4
SHT_NOBITS = 8
SHF_ALLOC, SHF_EXECINSTR, SHF_COMPRESSED = 2, 4, 0x800
DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SONAME, DT_TEXTREL, DT_FLAGS = 5, 6, 10, 14, 22, 30
DT_FLAGS_1 = 0x6FFFFFFB
# Tags whose values are addresses, which glibc's loader relocates in place.
_DYNAMIC_ADDRESSES = frozenset({3, 4, DT_STRTAB, DT_SYMTAB, 7, 23, 36, 0x6FFFFEF5, 0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFE})
DF_TEXTREL, DF_1_PIE = 4, 0x08000000
PN_XNUM = 0xFFFF
SHN_XINDEX = 0xFFFF

_OTHER_TYPES = {1: "an object file that was not linked", 4: "a core dump"}

SMALL_TABLE = 1 << 24
"""More bytes than the program headers or dynamic section of any real file."""


class ElfType(StrEnum):
    """What the file is for."""

    EXECUTABLE = "executable"
    """Loaded at its own addresses."""
    PIE = "position-independent executable"
    SHARED = "shared library"


class Segment(NamedTuple):
    """A program header."""

    type: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    file_size: int
    memory_size: int
    align: int

    @property
    def end_vaddr(self) -> int:
        """The first address after it, in memory."""
        return self.vaddr + self.memory_size

    @property
    def end_offset(self) -> int:
        """The first byte after it, in the file."""
        return self.offset + self.file_size


class Section(NamedTuple):
    """A section header."""

    name: str
    type: int
    flags: int
    vaddr: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry_size: int

    @property
    def end_vaddr(self) -> int:
        """The first address after it."""
        return self.vaddr + self.size


class _Header(NamedTuple):
    ident: bytes
    type: int
    machine: int
    version: int
    entry: int
    segments_offset: int
    sections_offset: int
    flags: int
    header_size: int
    segment_size: int
    segment_count: int
    section_size: int
    section_count: int
    names_index: int


def read_header(path: str, source: Source) -> _Header:
    """The file header, checked to be of 64-bit x86-64 code."""
    raw = source.read(0, _HEADER.size)
    if raw[:4] != b"\x7fELF":
        raise InvalidElf(path, f"not an ELF file: it starts with {raw[:4].hex(' ') or 'nothing'}")
    if len(raw) < _HEADER.size:
        raise InvalidElf(path, f"it ends in its header, after {len(raw)} bytes")
    header = _Header(*_HEADER.unpack(raw))
    if raw[4] != 2 or raw[5] != 1 or header.machine != MACHINE_X86_64:
        bits = {1: 32, 2: 64}.get(raw[4], 0)
        name = MACHINE_NAMES.get(header.machine, f"machine {header.machine}")
        raise UnsupportedTarget(path, f"{bits}-bit {name} code", hint="only 64-bit x86-64 code can be probed")
    if header.segment_count and header.segment_size != _SEGMENT.size:
        raise InvalidElf(path, f"program headers of {header.segment_size} bytes, not {_SEGMENT.size}")
    if header.section_count and header.section_size != _SECTION.size:
        raise InvalidElf(path, f"section headers of {header.section_size} bytes, not {_SECTION.size}")
    return header


def read_segments(path: str, source: Source) -> tuple[Segment, ...]:
    """The program headers alone: all that it takes to find out where the file is loaded."""
    header = read_header(path, source)
    count = header.segment_count
    if count == PN_XNUM:  # gABI: the true number is sh_info of section 0
        raw = source.read(header.sections_offset, _SECTION.size)
        count = _SECTION.unpack(raw)[7] if len(raw) == _SECTION.size else 0
    size = min(count * _SEGMENT.size, SMALL_TABLE)
    raw = source.read(header.segments_offset, size)
    if len(raw) < size:
        raise InvalidElf(path, "its program headers run past its end", hint="is it still being written?")
    return tuple(map(Segment._make, _SEGMENT.iter_unpack(raw)))


class ElfFile:
    """One file. Reads lazily and keeps what it read; a context manager that closes it.

    Constructing raises OSError where the file cannot be opened, :class:`~uprobes.errors.InvalidElf` where it
    is no ELF file, :class:`~uprobes.errors.UnsupportedTarget` where it is for another processor. Methods
    raise InvalidElf where what they need is damaged.
    """

    def __init__(self, path: str, source: Source | None = None, loaded_at: int = 0) -> None:
        """Open `path`, or take over `source` and use `path` as its name only.

        `loaded_at`: what a loader added to addresses in the dynamic section, if `source` is what it loaded.
        """
        self.path = path
        self._loaded_at = loaded_at
        self.source: Source = source or FileSource(partial(os.open, path, os.O_RDONLY | os.O_CLOEXEC))
        try:
            self._header = read_header(path, self.source)
            self.segments = read_segments(path, self.source)
        except BaseException:
            self.source.close()
            raise

    def __enter__(self) -> Self:
        """The file itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Class and path."""
        return f"<ElfFile {self.path!r}>"

    def close(self) -> None:
        """Let go of the file; it is opened again if more of it is needed."""
        self.source.close()

    # ---- bytes ----

    def read_file(self, offset: int, size: int, what: str) -> bytes:
        """`size` bytes at a file offset; InvalidElf, naming `what`, if the file is shorter."""
        content = self.source.read(offset, size)
        if len(content) < size:
            raise InvalidElf(
                self.path, f"{what} runs past its end: {size} bytes at {offset:#x} of {self.source.size:#x}"
            )
        return content

    def read(self, vaddr: int, size: int) -> bytes:
        """At most `size` bytes as the file has them at `vaddr`: up to the end of the segment's file part."""
        for segment in self.load_segments:
            left = segment.vaddr + segment.file_size - vaddr
            if vaddr >= segment.vaddr and left > 0:
                return self.source.read(segment.offset + vaddr - segment.vaddr, min(size, left))
        return b""

    def read_section(self, section: Section) -> bytes:
        """All bytes of a section, decompressed."""
        if section.type == SHT_NOBITS:
            return b""
        if not section.flags & SHF_COMPRESSED:
            return self.read_file(section.offset, section.size, section.name)
        with reading(self.path, section.name):
            found = self.pyelf.get_section(self.sections.index(section))
            return bytes(found.data())

    def vaddr_to_offset(self, vaddr: int) -> int | None:
        """The file offset of the byte loaded at `vaddr`; None where nothing of the file is."""
        for segment in self.load_segments:
            if segment.vaddr <= vaddr < segment.vaddr + segment.file_size:
                return vaddr - segment.vaddr + segment.offset
        return None

    def offset_to_vaddr(self, offset: int) -> int | None:
        """The inverse of `vaddr_to_offset`; the first segment counts where several load the byte."""
        for segment in self.load_segments:
            if segment.offset <= offset < segment.offset + segment.file_size:
                return offset - segment.offset + segment.vaddr
        return None

    # ---- headers ----

    @cached_property
    def load_segments(self) -> tuple[Segment, ...]:
        """What is mapped, by rising address."""
        return tuple(segment for segment in self.segments if segment.type == PT_LOAD)

    def segment(self, kind: int) -> Segment | None:
        """The first segment of a type."""
        return next((segment for segment in self.segments if segment.type == kind), None)

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """The section headers; none in a file that was stripped of them."""
        header = self._header
        if not header.sections_offset:
            return ()
        count, names = header.section_count, header.names_index
        if not count or names == SHN_XINDEX:  # gABI: too many for the header, section 0 tells
            first = _SECTION.unpack(self.read_file(header.sections_offset, _SECTION.size, "section header 0"))
            count, names = count or first[5], first[6] if names == SHN_XINDEX else names
        raw = self.read_file(header.sections_offset, count * _SECTION.size, "the section header table")
        records = list(_SECTION.iter_unpack(raw))
        strings = b""
        if names < len(records):
            strings = self.source.read(records[names][4], records[names][5])
        return tuple(Section(c_string(strings, record[0]), *record[1:]) for record in records)

    @cached_property
    def _sections_by_name(self) -> dict[str, Section]:
        return {section.name: section for section in reversed(self.sections)}

    def section(self, name: str) -> Section | None:
        """The first section of a name."""
        return self._sections_by_name.get(name)

    @property
    def entry_vaddr(self) -> int:
        """Where execution starts, or 0."""
        return self._header.entry

    @cached_property
    def type(self) -> ElfType:
        """Executable, PIE or shared library."""
        if self._header.type == 2:
            return ElfType.EXECUTABLE
        if self._header.type != 3:
            kind = _OTHER_TYPES.get(self._header.type, "neither program nor library")
            raise InvalidElf(self.path, f"it is {kind}", hint="name the program or library made from it")
        if self.dynamic.get(DT_FLAGS_1, [0])[0] & DF_1_PIE:
            return ElfType.PIE
        # linkers before binutils 2.26 set no flag, and a library may have an interpreter: libc.so.6 does
        return ElfType.PIE if self.segment(PT_INTERP) and not self.soname else ElfType.SHARED

    @cached_property
    def code_ranges(self) -> tuple[tuple[int, int], ...]:
        """Half-open ranges of addresses that hold functions: executable, and not a linkage table (PLT)."""
        sections = [
            (section.vaddr, section.end_vaddr)
            for section in self.sections
            if section.flags & (SHF_ALLOC | SHF_EXECINSTR) == SHF_ALLOC | SHF_EXECINSTR
            and section.size
            and not section.name.startswith((".plt", ".iplt"))
        ]
        if not self.sections:
            sections = [(s.vaddr, s.end_vaddr) for s in self.load_segments if s.flags & PF_X]
        return tuple(sorted(sections))

    # ---- the dynamic section ----

    @cached_property
    def dynamic(self) -> dict[int, list[int]]:
        """Values by tag, in file order; empty in a static program."""
        tags: dict[int, list[int]] = {}
        segment = self.segment(PT_DYNAMIC)
        if segment is not None:
            size = min(segment.file_size, SMALL_TABLE)
            raw = self.source.read(segment.offset, size - size % _DYNAMIC.size)
            for tag, value in _DYNAMIC.iter_unpack(raw[: len(raw) - len(raw) % _DYNAMIC.size]):
                if tag == 0:
                    break
                if tag in _DYNAMIC_ADDRESSES and self._loaded_at and value >= self._loaded_at:
                    value -= self._loaded_at
                tags.setdefault(tag, []).append(value)
        return tags

    @cached_property
    def dynamic_strings(self) -> bytes:
        """The string table of the dynamic section."""
        if DT_STRTAB not in self.dynamic or DT_STRSZ not in self.dynamic:
            return b""
        return self.read(self.dynamic[DT_STRTAB][0], self.dynamic[DT_STRSZ][0])

    @cached_property
    def soname(self) -> str | None:
        """The name under which other files ask for this one."""
        if DT_SONAME not in self.dynamic:
            return None
        return c_string(self.dynamic_strings, self.dynamic[DT_SONAME][0]) or None

    @property
    def has_text_relocations(self) -> bool:
        """Whether the loader changes code, so that memory rightly differs from the file."""
        return DT_TEXTREL in self.dynamic or bool(self.dynamic.get(DT_FLAGS, [0])[0] & DF_TEXTREL)

    # ---- by pyelftools ----

    @cached_property
    def pyelf(self) -> ELFFile:
        """The file as pyelftools sees it."""
        from elftools.elf.elffile import ELFFile  # it takes 60 ms to import

        with reading(self.path, "its headers"):
            return ELFFile(io.BufferedReader(SourceStream(self.source)))

    def notes(self, offset: int, size: int) -> Iterator[tuple[str, int | str, bytes]]:
        """Owner, type and content of each note in a range of the file."""
        from elftools.elf.notes import iter_notes

        with reading(self.path, "its notes"):
            for note in iter_notes(self.pyelf, offset, size):
                yield note["n_name"], note["n_type"], note["n_descdata"]

    @cached_property
    def build_id(self) -> str | None:
        """The linker's identification of this build, in hex."""
        for segment in self.segments:
            if segment.type == PT_NOTE:
                for owner, kind, content in self.notes(segment.offset, segment.file_size):
                    if (owner, kind) == ("GNU", "NT_GNU_BUILD_ID"):
                        return content.hex()
        return None


@contextmanager
def reading(path: str, what: str) -> Iterator[None]:
    """Turn whatever pyelftools and zlib raise over damaged bytes into InvalidElf."""
    try:
        yield
    except (OSError, UprobeError):
        raise
    except Exception as error:
        raise InvalidElf(path, f"{what}: {error or type(error).__name__}") from error


def c_string(table: bytes, offset: int) -> str:
    """The string that starts at `offset` of a string table; undecodable bytes are kept as surrogates."""
    end = table.find(b"\0", offset)
    return table[offset : end if end >= 0 else len(table)].decode("utf-8", "surrogateescape")
