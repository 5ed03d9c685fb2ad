"""The programs and libraries that a process has loaded: from their own addresses to the process's, and back."""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

from uprobes.errors import UprobeError
from uprobes.mapped_file import open_mapped_file, read_loaded_file, read_memory
from uprobes.mapping import PAGE, parse_mappings
from uprobes.procfs import ProcDirectory
from uprobes.symbols.binary import Binary
from uprobes.symbols.elf import PF_X, PT_LOAD, ElfFile, read_segments
from uprobes.symbols.source import BytesSource, FileSource, Identity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uprobes.mapping import Mapping
    from uprobes.symbols.elf import Segment
    from uprobes.symbols.source import Source

VDSO: Final = "[vdso]"
KEPT: Final = 32
"""Files whose symbols are kept for the next question, over all processes."""

_kept: OrderedDict[tuple[Identity, str], Binary] = OrderedDict()


@dataclass(frozen=True, eq=False)
class Module:
    """One ELF file that a process has loaded, in one place. Loaded twice it is two modules."""

    pid: int
    path: str
    """As the process sees it; `[vdso]` for the kernel's own."""
    deleted: bool
    """Whether the path names this file no more."""
    bias: int
    """What is added to the file's addresses to get the process's, modulo 2**64."""
    segments: tuple[Segment, ...]
    mappings: tuple[Mapping, ...]
    """Those that are executable, by address."""
    identity: Identity | None
    """Of the file; None where there is none that we can open, and memory stands in for it."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def soname(self) -> str | None:
        """The name under which it was asked for, if it has one."""
        return self.binary.elf.soname

    def address_of(self, vaddr: int) -> int:
        """The process's address of the file's `vaddr`."""
        return (vaddr + self.bias) % (1 << 64)

    def vaddr_of(self, address: int) -> int:
        """The file's own address of what the process has at `address`."""
        return (address - self.bias) % (1 << 64)

    def __contains__(self, address: object) -> bool:
        """Whether an address of the process is in its code."""
        return any(address in mapping for mapping in self.mappings)

    @cached_property
    def binary(self) -> Binary:
        """The file with its symbols."""
        root = _root_of(self.pid)
        if self.identity is None:
            return Binary(self._read_loaded(), root=root)
        open_file = partial(_open_file, self.pid, self.mappings[0])
        binary = _kept.pop((self.identity, self.path), None)
        if binary is None:
            binary = Binary(ElfFile(self.path, FileSource(open_file)), root=root)
        elif isinstance(binary.elf.source, FileSource):
            binary.elf.source.reach_by(open_file)
        _kept[self.identity, self.path] = binary
        while len(_kept) > KEPT:
            _kept.popitem(last=False)[1].close()
        return binary

    def close(self) -> None:
        """Let go of the file, if it was looked into; it is opened again if more of it is needed."""
        if "binary" in self.__dict__:
            self.binary.close()

    def _read_loaded(self) -> ElfFile:
        with ProcDirectory(self.pid) as process:
            return ElfFile(self.path, BytesSource(_read_memory_of(process, self.mappings[0])), loaded_at=self.bias)

    def __repr__(self) -> str:
        """Path and bias."""
        return f"<Module {self.path} at {self.bias:#x}>"


def find_modules(process: ProcDirectory, mappings: Iterable[Mapping]) -> list[Module]:
    """The modules with code, by address. Mapped files that are no 64-bit ELF files are none."""
    files: dict[tuple[object, ...], list[Mapping]] = {}
    for mapping in mappings:
        if mapping.executable and (mapping.is_file or mapping.name == VDSO):
            files.setdefault(mapping.file, []).append(mapping)
    found = [module for group in files.values() for module in _modules_of_file(process, group)]
    return sorted(found, key=lambda module: module.mappings[0].start)


def _modules_of_file(process: ProcDirectory, mappings: list[Mapping]) -> list[Module]:
    first = mappings[0]
    source: Source
    try:
        source = FileSource(partial(_open_in, process, first))
    except OSError:
        source = BytesSource(_read_memory_of(process, first))
    try:
        segments = read_segments(first.name, source)
    except UprobeError:
        return []
    finally:
        source.close()
    identity = source.identity if isinstance(source, FileSource) else None
    by_bias: dict[int, list[Mapping]] = {}
    for mapping in mappings:
        bias = _bias_of(mapping, segments)
        if bias is not None:
            by_bias.setdefault(bias, []).append(mapping)
    return [
        Module(process.pid, first.name, first.deleted, bias, segments, tuple(group), identity)
        for bias, group in by_bias.items()
    ]


def _bias_of(mapping: Mapping, segments: tuple[Segment, ...]) -> int | None:
    """Where the file's address 0 would be, by the executable segment that the mapping shows."""
    for segment in segments:
        first = segment.offset // PAGE * PAGE
        if segment.type == PT_LOAD and segment.flags & PF_X and first <= mapping.offset < segment.end_offset:
            return (mapping.start - mapping.offset + segment.offset - segment.vaddr) % (1 << 64)
    return None


def _read_memory_of(process: ProcDirectory, mapping: Mapping) -> bytes:
    if mapping.name == VDSO:
        return read_memory(process, mapping.start, mapping.size)
    everything = parse_mappings(process.read("maps"))
    loaded = [other for other in everything if other.file == mapping.file]
    # Unmapped meanwhile, as where the process ends: no module then.
    return read_loaded_file(process, loaded) if loaded else b""


def _open_in(process: ProcDirectory, mapping: Mapping) -> int:
    descriptor = open_mapped_file(process, mapping)
    if descriptor is None:
        raise FileNotFoundError(errno.ENOENT, "the mapped file cannot be opened", mapping.name)
    return descriptor


def _open_file(pid: int, mapping: Mapping) -> int:
    with ProcDirectory(pid) as process:
        return _open_in(process, mapping)


def _root_of(pid: int) -> str:
    """Where paths of the process begin for us; empty unless it sees other files than we do."""
    try:
        theirs, ours = os.stat(f"/proc/{pid}/root"), os.stat("/")
    except OSError:
        return ""
    return "" if os.path.samestat(theirs, ours) else f"/proc/{pid}/root"
