"""The mappings of a process, and the holes between them. Pure: what /proc/PID/maps says comes in as text."""

from __future__ import annotations

import mmap
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PAGE: Final = mmap.PAGESIZE
LOWEST: Final = 0x10000
"""No mapping may begin below, by default (vm.mmap_min_addr)."""
HIGHEST: Final = 0x7FFFFFFFF000
"""Where user space ends, unless a mapping is asked for above 47 bits."""
HEAP_ROOM: Final = 64 << 30
"""Bytes above the heap that are left to brk(). Programs that outgrow them take memory by mmap()."""
STACK_ROOM: Final = 1 << 30
"""Bytes below the stack that are left to its growth."""
DELETED: Final = " (deleted)"


@dataclass(frozen=True, slots=True)
class Mapping:
    """A line of /proc/PID/maps. Half-open: `start` is in it, `end` is not."""

    start: int
    end: int
    rights: str
    """As `r-xp`."""
    offset: int
    """Of its first byte in the file."""
    device: tuple[int, int]
    """Major and minor number; (0, 0) where there is no file."""
    inode: int
    """0 where there is no file."""
    name: str
    """The file's path as the process sees it, or what the kernel says, as `[heap]`, or empty."""
    deleted: bool = False
    """Whether the file has no name any more."""

    @property
    def file(self) -> tuple[object, ...]:
        """Equal for mappings of one file."""
        return self.device, self.inode, self.name

    @property
    def size(self) -> int:
        """In bytes."""
        return self.end - self.start

    @property
    def readable(self) -> bool:
        """Whether the process may read it."""
        return self.rights[0] == "r"

    @property
    def writable(self) -> bool:
        """Whether the process may write to it."""
        return self.rights[1] == "w"

    @property
    def executable(self) -> bool:
        """Whether the process may execute it."""
        return self.rights[2] == "x"

    @property
    def shared(self) -> bool:
        """Whether a write would go to the file, or to other processes."""
        return self.rights[3] == "s"

    @property
    def is_file(self) -> bool:
        """Whether its bytes come from a file."""
        return self.inode != 0 and self.name.startswith("/")

    def __contains__(self, vaddr: object) -> bool:
        """Whether an address is in it."""
        return isinstance(vaddr, int) and self.start <= vaddr < self.end


def parse_mappings(text: bytes) -> list[Mapping]:
    """The lines of /proc/PID/maps, which the kernel gives by rising address."""
    return [_parse_line(line) for line in text.splitlines()]


def _parse_line(line: bytes) -> Mapping:
    span, rights, offset, device, inode, *rest = line.split(None, 5)
    start, end = span.split(b"-")
    major, minor = device.split(b":")
    # the kernel escapes the line feed alone, and a path keeps its other white space
    name = rest[0].replace(b"\\012", b"\n").decode("utf-8", "surrogateescape") if rest else ""
    deleted = name.endswith(DELETED)
    return Mapping(
        int(start, 16),
        int(end, 16),
        rights.decode(),
        int(offset, 16),
        (int(major, 16), int(minor, 16)),
        int(inode),
        name.removesuffix(DELETED) if deleted else name,
        deleted,
    )


def mapping_at(mappings: Sequence[Mapping], vaddr: int) -> Mapping | None:
    """The mapping that has an address, of some that are sorted."""
    place = bisect_right(mappings, vaddr, key=lambda mapping: mapping.start) - 1
    return mappings[place] if place >= 0 and vaddr in mappings[place] else None


def topmost_end(mappings: Sequence[Mapping]) -> int:
    """Where the topmost mapping of user space ends; the vsyscall page is not in user space."""
    return max((mapping.end for mapping in mappings if mapping.end <= HIGHEST), default=LOWEST)


def find_hole(mappings: Sequence[Mapping], size: int, near: tuple[int, int]) -> int | None:
    """Where `size` bytes are free in the half-open range `near`, with a free page on both sides; None: nowhere.

    Holes below the code in the middle of `near` come first, the nearest before the others. Never taken is what the
    process may grow into without asking for an address: HEAP_ROOM above its data, STACK_ROOM below its stack.
    `mappings` are sorted; the answer is the address of a page.
    """
    size = _round_up(size)
    low, high = _round_up(max(near[0], 0)), min(near[1], HIGHEST)
    middle = (near[0] + near[1]) // 2
    anchor = next((mapping.start for mapping in mappings if mapping.executable and mapping.end > middle), middle)
    found = []
    for start, end in _holes(mappings):
        first = max(start + PAGE, low)
        last = min(end - PAGE, high) - size
        if first <= last:
            found.append(max(first, min(last, anchor - size)) // PAGE * PAGE)
    return min(found, key=lambda vaddr: (vaddr >= anchor, abs(vaddr - anchor)), default=None)


def _round_up(number: int) -> int:
    return -(-number // PAGE) * PAGE


def _holes(mappings: Sequence[Mapping]) -> Iterator[tuple[int, int]]:
    """What is free and not kept for growth, by rising address."""
    data_end = _data_end(mappings)
    free = LOWEST - PAGE
    for mapping in mappings:
        if mapping.start >= HIGHEST:
            break
        end = mapping.start - STACK_ROOM if mapping.name == "[stack]" else mapping.start
        if free < end:
            yield free, end
        free = mapping.end + (HEAP_ROOM if mapping.end == data_end else 0)
    if free < HIGHEST:
        yield free, HIGHEST


def _data_end(mappings: Sequence[Mapping]) -> int | None:
    """Where brk() grows from: the end of the heap or, while there is none, of the program's own data.

    The program is the lowest of the mapped files: the kernel puts libraries and whatever is mapped later above.
    """
    heap = [mapping.end for mapping in mappings if mapping.name == "[heap]"]
    if heap:
        return max(heap)
    program = next((mapping for mapping in mappings if mapping.is_file), None)
    end = None
    for mapping in mappings:
        if (program and mapping.file == program.file) or (mapping.start == end and not mapping.name):
            end = mapping.end
    return end
