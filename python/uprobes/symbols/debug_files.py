"""Symbols that a file does not load: kept apart in a debug file, or compressed inside it.

The places are those of gdb: by build-id under a debug root, by .gnu_debuglink beside the file, in its .debug
directory and under a debug root. A debug file counts only if its build-id is the same or, where there is
none, its CRC-32 is the one in the link.
"""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING

from uprobes.errors import InvalidElf, UprobeError
from uprobes.symbols.elf import ElfFile, c_string
from uprobes.symbols.source import BytesSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DEBUG_ROOTS = ("/usr/lib/debug",)
EMBEDDED_LIMIT = 1 << 28
"""Bytes to which an embedded symbol table may unfold; real ones take a few MiB."""
_CHUNK = 1 << 20


def find_debug_file(elf: ElfFile, roots: Sequence[str] = DEBUG_ROOTS, root: str = "") -> ElfFile | None:
    """The file with the symbols and lines that were split off `elf`, opened; None if it is not installed.

    `roots` are directories laid out as /usr/lib/debug is; `root` is where the file's path begins, as that of a
    container does elsewhere than ours.
    """
    link = elf.section(".gnu_debuglink")
    if elf.build_id is None and link is None:
        return None
    name, crc = _read_link(elf)
    every = [*roots, *(root + debug_root for debug_root in roots if root)]
    for path in _candidates(elf, name, every, root):
        try:
            found = ElfFile(path)
        except (OSError, UprobeError):
            continue
        if _belongs(found, elf, crc):
            return found
        found.close()
    return None


def read_embedded_symbols(elf: ElfFile) -> ElfFile | None:
    """The compressed ELF file of .gnu_debugdata, which has the symbols that .dynsym has not."""
    section = elf.section(".gnu_debugdata")
    if section is None:
        return None
    import lzma  # few files have the section

    decoder = lzma.LZMADecompressor()
    try:
        content = decoder.decompress(elf.read_section(section), EMBEDDED_LIMIT)
    except lzma.LZMAError as error:
        raise InvalidElf(elf.path, f".gnu_debugdata: {error}") from error
    return ElfFile(elf.path, BytesSource(content))


def _read_link(elf: ElfFile) -> tuple[str | None, int]:
    """File name and CRC-32 of .gnu_debuglink: a string, padding to four bytes, the sum."""
    section = elf.section(".gnu_debuglink")
    if section is None:
        return None, 0
    raw = elf.read_section(section)
    return c_string(raw, 0) or None, int.from_bytes(raw[-4:], "little")


def _candidates(elf: ElfFile, name: str | None, roots: Sequence[str], root: str) -> Iterator[str]:
    if elf.build_id:
        for debug_root in roots:
            yield f"{debug_root}/.build-id/{elf.build_id[:2]}/{elf.build_id[2:]}.debug"
    if name and "/" not in name:
        directory = os.path.dirname(os.path.abspath(elf.path))
        yield f"{root}{directory}/{name}"
        yield f"{root}{directory}/.debug/{name}"
        for debug_root in roots:
            yield f"{debug_root}{directory}/{name}"


def _belongs(found: ElfFile, elf: ElfFile, crc: int) -> bool:
    if elf.build_id and found.build_id:
        return found.build_id == elf.build_id
    total = 0
    for offset in range(0, found.source.size, _CHUNK):
        total = zlib.crc32(found.source.read(offset, _CHUNK), total)
    return total == crc
