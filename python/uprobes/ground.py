"""The mappings that a target's sites stand on, to notice when they are another's: unloaded, moved, replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from uprobes.mapping import Mapping


class Ground:
    """The executable mappings in which sites were inserted, as they were then."""

    def __init__(self) -> None:
        """None yet."""
        self._mappings: dict[int, Mapping] = {}

    def note(self, mapping: Mapping) -> None:
        """Sites are inserted in it."""
        self._mappings[mapping.start] = mapping

    def inherit(self, parent: Ground) -> None:
        """The process is a copy of another."""
        self._mappings = dict(parent._mappings)

    def clear(self) -> None:
        """After an exec."""
        self._mappings.clear()

    def lost(self, mappings: Sequence[Mapping]) -> list[tuple[int, int]]:
        """What is not as it was, among the process's `mappings` of now: half-open ranges, which are told once."""
        ranges = []
        for start, mapping in list(self._mappings.items()):
            if gaps := list(_gaps(mapping, mappings)):
                ranges.extend(gaps)
                del self._mappings[start]
        return ranges


def _gaps(before: Mapping, mappings: Sequence[Mapping]) -> Iterator[tuple[int, int]]:
    """The parts of a mapping that are mapped from elsewhere by now, or not executable, or not at all."""
    at = before.start
    for now in mappings:
        if now.end <= at or now.start >= before.end or not _is_same(before, now):
            continue
        if now.start > at:
            yield at, now.start
        at = min(now.end, before.end)
    if at < before.end:
        yield at, before.end


def _is_same(before: Mapping, now: Mapping) -> bool:
    if not now.executable or (now.device, now.inode) != (before.device, before.inode):
        return False
    return not before.inode or now.start - now.offset == before.start - before.offset
