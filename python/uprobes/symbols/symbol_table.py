"""Symbol tables, read by columns: a table of a quarter of a million symbols is searched in milliseconds.

A symbol is 24 bytes (gABI, figure 4-16): name u32, info u8, other u8, section u16, value u64, size u64.
"""

from __future__ import annotations

import struct
from functools import cached_property
from itertools import compress
from typing import TYPE_CHECKING, NamedTuple

from uprobes.symbols.elf import DT_STRTAB, DT_SYMTAB, c_string

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping

    from uprobes.symbols.elf import ElfFile

SYMBOL_SIZE = 24
VALUE_OFFSET = 8
SHN_UNDEF = 0

NOTYPE, OBJECT, FUNC, IFUNC = 0, 1, 2, 10
LOCAL, GLOBAL, WEAK, UNIQUE = 0, 1, 2, 10

DT_HASH, DT_GNU_HASH = 4, 0x6FFFFEF5
DT_VERSYM, DT_VERDEF, DT_VERDEFNUM = 0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD
VERSION_HIDDEN = 0x8000
"""Set in a version index: callers that ask for no version do not get this one."""

_RECORD = struct.Struct("<IBBHQQ")

# Selects functions from a column of info bytes; the low four bits are the type.
_IS_FUNCTION = bytes(info & 15 in (FUNC, IFUNC) for info in range(256))


class Symbol(NamedTuple):
    """A defined symbol. `size` is in bytes and may be 0, which means unknown."""

    name: str
    version: str
    """As GLIBC_2.14, or empty."""
    is_default: bool
    """Whether the name without a version means this one."""
    type: int
    binding: int
    vaddr: int
    size: int

    @property
    def is_function(self) -> bool:
        """Whether its type says so."""
        return self.type in (FUNC, IFUNC)

    @property
    def is_ifunc(self) -> bool:
        """Whether it is a resolver: the loader calls it once to choose among implementations."""
        return self.type == IFUNC

    @property
    def full_name(self) -> str:
        """The name with its version, as linkers write it: memcpy@@GLIBC_2.14."""
        if not self.version:
            return self.name
        return f"{self.name}{'@@' if self.is_default else '@'}{self.version}"


class SymbolTable:
    """The symbols of one section."""

    def __init__(
        self,
        symbols: bytes,
        strings: bytes,
        version_indexes: bytes = b"",
        version_names: Mapping[int, str] | None = None,
    ) -> None:
        """`version_indexes` has two bytes a symbol, or is empty."""
        count = len(symbols) // SYMBOL_SIZE
        self._raw = memoryview(symbols)[: count * SYMBOL_SIZE]
        self._strings = strings if strings.endswith(b"\0") else strings + b"\0"
        self._version_indexes = memoryview(version_indexes)[: len(version_indexes) & ~1].cast("H")
        self._version_names = version_names or {}

    def __len__(self) -> int:
        """Symbols in the table, undefined ones too."""
        return len(self._raw) // SYMBOL_SIZE

    @cached_property
    def _name_offsets(self) -> list[int]:
        return self._raw.cast("I")[0::6].tolist()

    @cached_property
    def _vaddrs(self) -> list[int]:
        return self._raw.cast("Q")[1::3].tolist()

    def _name(self, offset: int) -> str:
        return self._strings[offset : self._strings.find(b"\0", offset)].decode("utf-8", "surrogateescape")

    def at(self, index: int) -> Symbol:
        """The symbol at an index."""
        name_offset, info, _, _, vaddr, size = _RECORD.unpack_from(self._raw, index * SYMBOL_SIZE)
        # BFD writes versions into the names of .symtab, too
        name, at, version = self._name(name_offset).partition("@")
        is_default = not at or version.startswith("@")
        if index < len(self._version_indexes):
            number = self._version_indexes[index]
            version = self._version_names.get(number & ~VERSION_HIDDEN, "")
            is_default = not number & VERSION_HIDDEN
        return Symbol(name, version.lstrip("@"), is_default, info & 15, info >> 4, vaddr, size)

    def _is_defined(self, index: int) -> bool:
        start = index * SYMBOL_SIZE + 6
        return self._raw[start] != SHN_UNDEF or self._raw[start + 1] != SHN_UNDEF

    def find(self, name: str) -> Iterator[Symbol]:
        """The defined symbols of a name, of any type."""
        return map(self.at, filter(self._is_defined, self.indexes_of(name)))

    def is_undefined(self, name: str) -> bool:
        """Whether the name occurs and is never defined."""
        indexes = list(self.indexes_of(name))
        return bool(indexes) and not any(map(self._is_defined, indexes))

    def indexes_of(self, name: str) -> Iterator[int]:
        """Where a name is in the table, defined or not."""
        # A linker may let a name be the tail of another, so it need not start after a NUL.
        wanted = name.encode("utf-8", "surrogateescape")
        offsets = set()
        for end in (b"\0", b"@"):
            start = -1
            while (start := self._strings.find(wanted + end, start + 1)) >= 0:
                offsets.add(start)
        if offsets:
            yield from (index for index, offset in enumerate(self._name_offsets) if offset in offsets)

    def functions(self, matches: Callable[[str], object] | None = None) -> Iterator[Symbol]:
        """Every defined function, or those whose name without its version `matches`."""
        chosen: Iterable[int] = self._function_indexes()
        if matches is not None:
            offsets, name = self._name_offsets, self._name
            chosen = (index for index in chosen if matches(name(offsets[index]).partition("@")[0]))
        return map(self.at, filter(self._is_defined, chosen))

    @property
    def values(self) -> memoryview:
        """The addresses of all symbols, of any kind: eight bytes of every `SYMBOL_SIZE`, from the first on."""
        return self._raw[VALUE_OFFSET:]

    def extents(self) -> Iterator[tuple[int, int]]:
        """Address and size in bytes of every defined function."""
        sizes = self._raw.cast("Q")[2::3]
        return ((self._vaddrs[index], sizes[index]) for index in filter(self._is_defined, self._function_indexes()))

    def functions_at(self, vaddrs: Container[int]) -> Iterator[Symbol]:
        """The defined functions that start at one of some addresses."""
        values = self._vaddrs
        chosen = (index for index in self._function_indexes() if values[index] in vaddrs)
        return map(self.at, filter(self._is_defined, chosen))

    def function_spans(self) -> Iterator[tuple[int, int]]:
        """Address and end of every defined function whose size is known, by columns: no symbol is made."""
        defined = self._raw.cast("H")[3::12].tolist()  # the section's index, SHN_UNDEF is 0
        sizes = self._raw.cast("Q")[2::3].tolist()
        for vaddr, size, section in compress(
            zip(self._vaddrs, sizes, defined, strict=True), self._is_function
        ):
            if size and section:
                yield vaddr, vaddr + size

    @property
    def _is_function(self) -> bytes:
        return self._raw[4::SYMBOL_SIZE].tobytes().translate(_IS_FUNCTION)

    def _function_indexes(self) -> Iterable[int]:
        return compress(range(len(self)), self._is_function)


def read_symbol_table(elf: ElfFile, name: str) -> SymbolTable | None:
    """The symbols of a section, as .symtab; None where the file has none."""
    section = elf.section(name)
    if section is None or not 0 < section.link < len(elf.sections):
        return None
    return SymbolTable(elf.read_section(section), elf.read_section(elf.sections[section.link]))


def read_dynamic_symbols(elf: ElfFile) -> SymbolTable | None:
    """The symbols that the loader sees, with their versions. Needs no section headers."""
    if DT_SYMTAB not in elf.dynamic or DT_STRTAB not in elf.dynamic:
        return None
    count = _count_dynamic_symbols(elf)
    symbols = elf.read(elf.dynamic[DT_SYMTAB][0], count * SYMBOL_SIZE)
    indexes = elf.read(elf.dynamic[DT_VERSYM][0], count * 2) if DT_VERSYM in elf.dynamic else b""
    return SymbolTable(symbols, elf.dynamic_strings, indexes, _read_version_names(elf) if indexes else None)


def _count_dynamic_symbols(elf: ElfFile) -> int:
    """How many there are, which only a hash table or a section header tells."""
    section = elf.section(".dynsym")
    if section is not None:
        return section.size // SYMBOL_SIZE
    if DT_HASH in elf.dynamic:  # gABI: nbucket, nchain, and nchain equals the number of symbols
        raw = elf.read(elf.dynamic[DT_HASH][0], 8)
        return int.from_bytes(raw[4:8], "little")
    if DT_GNU_HASH in elf.dynamic:
        return _count_gnu_hash(elf, elf.dynamic[DT_GNU_HASH][0])
    return 0


def _count_gnu_hash(elf: ElfFile, vaddr: int) -> int:
    """One more than the greatest index: the last bucket's chain, which ends at an odd hash."""
    header = elf.read(vaddr, 16)
    if len(header) < 16:
        return 0
    bucket_count, first, bloom_count, _ = memoryview(header).cast("I").tolist()
    buckets_vaddr = vaddr + 16 + bloom_count * 8
    raw = elf.read(buckets_vaddr, bucket_count * 4)
    last = max(memoryview(raw[: len(raw) & ~3]).cast("I").tolist(), default=0)
    if last < first:
        return first
    chains_vaddr = buckets_vaddr + bucket_count * 4
    while word := elf.read(chains_vaddr + (last - first) * 4, 4):
        last += 1
        if word[0] & 1:
            break
    return last


def _read_version_names(elf: ElfFile) -> dict[int, str]:
    """Names of the versions that the file defines, by index: a chain of Verdef and first Verdaux records."""
    names: dict[int, str] = {}
    vaddr = elf.dynamic.get(DT_VERDEF, [0])[0]
    for _ in range(elf.dynamic.get(DT_VERDEFNUM, [0])[0] if vaddr else 0):
        raw = elf.read(vaddr, 20)
        if len(raw) < 20:
            break
        _, flags, index, _, _, aux, following = struct.unpack("<4H3I", raw)
        if not flags & 1:  # VER_FLG_BASE names the file itself
            name = elf.read(vaddr + aux, 4)
            names[index] = c_string(elf.dynamic_strings, int.from_bytes(name, "little"))
        if not following:
            break
        vaddr += following
    return names
