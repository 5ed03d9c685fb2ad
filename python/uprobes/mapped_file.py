"""The bytes of what a process has mapped, from the file itself wherever that can be had.

A file is known by device and inode: its path may not exist in our mount namespace, or may name a newer file by now.
What no file can be opened for (deleted, anonymous, the vDSO) is read from the process's memory.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from uprobes.errors import NotPermitted, TargetGone
from uprobes.mapping import DELETED, PAGE, parse_mappings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uprobes.mapping import Mapping
    from uprobes.procfs import ProcDirectory

# Fields of the ELF header that lead to the section headers, which are in no mapping: e_shoff; e_shnum, e_shstrndx.
_SECTION_FIELDS = ((0x28, 8), (0x3C, 4))


def open_mapped_file(process: ProcDirectory, mapping: Mapping) -> int | None:
    """A descriptor of the very file that is mapped.

    None if there is none, or if it has no name any more (its path may be that of a new file) and we lack the right to
    open it all the same.
    """
    if not mapping.is_file:
        return None
    shown = f"map_files/{mapping.start:x}-{mapping.end:x}"
    try:  # cannot be wrong, but needs CAP_CHECKPOINT_RESTORE
        return process.open(shown) if _is_regular(process, shown) else None
    except OSError:
        pass
    for name in ("exe", f"root{mapping.name}"):
        try:
            if name == "exe" and process.link(name).removesuffix(DELETED) != mapping.name:
                continue
            if not _is_regular(process, name):
                continue
            descriptor = process.open(name)
        except OSError:
            continue
        if _is_same_file(process, descriptor, mapping):
            return descriptor
        os.close(descriptor)
    return None


def _is_regular(process: ProcDirectory, name: str) -> bool:
    """Whether opening it has no effects: a mapped device may do anything."""
    return stat.S_ISREG(process.stat(name).st_mode)


def _is_same_file(process: ProcDirectory, descriptor: int, mapping: Mapping) -> bool:
    found = os.fstat(descriptor)
    if (os.major(found.st_dev), os.minor(found.st_dev), found.st_ino) == (*mapping.device, mapping.inode):
        return True
    # On btrfs and overlayfs fstat() names another device, and inode, than maps does. The first page tells files apart:
    # it has the program headers and the build-id.
    for other in parse_mappings(process.read("maps")):
        if (other.device, other.inode, other.offset) == (mapping.device, mapping.inode, 0):
            return read_memory(process, other.start, PAGE) == os.pread(descriptor, PAGE, 0).ljust(PAGE, b"\0")
    return False


def read_memory(process: ProcDirectory, vaddr: int, size: int) -> bytes:
    """`size` bytes of the process's memory; fewer where it ends, none where nothing is mapped."""
    try:
        descriptor = process.open("mem")
    except PermissionError:
        raise NotPermitted(
            process.pid, "its memory may not be read", hint=f"uprobes doctor -p {process.pid} tells what forbids it"
        ) from None
    except (FileNotFoundError, ProcessLookupError):
        raise TargetGone(process.pid, "it ended") from None
    pieces = []
    try:
        while size > 0 and (piece := os.pread(descriptor, size, vaddr)):
            pieces.append(piece)
            vaddr += len(piece)
            size -= len(piece)
    except OSError:  # EIO: not mapped
        pass
    finally:
        os.close(descriptor)
    return b"".join(pieces)


def read_image(process: ProcDirectory, mapping: Mapping) -> memoryview:
    """The bytes of a mapping as its file has them: what was there before anybody patched it.

    Those in memory where there is no file that we can open.
    """
    descriptor = open_mapped_file(process, mapping)
    if descriptor is None:
        return memoryview(read_memory(process, mapping.start, mapping.size).ljust(mapping.size, b"\0"))
    try:
        content = bytearray(mapping.size)
        place = 0
        while (count := os.preadv(descriptor, [memoryview(content)[place:]], mapping.offset + place)) > 0:
            place += count
        return memoryview(content)
    finally:
        os.close(descriptor)


def read_loaded_file(process: ProcDirectory, mappings: Sequence[Mapping]) -> bytes:
    """A file put together again from its mappings, as far as it is mapped; what the process changed is changed.

    The header says that there are no section headers: they are in no mapping.
    """
    content = bytearray(max((mapping.offset + mapping.size for mapping in mappings), default=0))
    # code and constants are as they were, so they come last where a page of the file is mapped twice
    for mapping in sorted(mappings, key=lambda mapping: mapping.writable, reverse=True):
        piece = read_memory(process, mapping.start, mapping.size)
        content[mapping.offset : mapping.offset + len(piece)] = piece
    for start, count in _SECTION_FIELDS:
        content[start : start + count] = bytes(count)
    return bytes(content)
