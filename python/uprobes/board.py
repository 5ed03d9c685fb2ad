"""Boards: memory that hit code inside the target, or the tracer at a stop, writes counts and records to."""

from __future__ import annotations

import mmap
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from uprobe_core.x86.hitplan import HitPlan

_WORD = 8
_MAP_NORESERVE = 0x4000  # the module has no name for it
_POSSIBLE = Path("/sys/devices/system/cpu/possible")


class Board:
    """A stride of ``1 << shift`` bytes for every processor that there can be, and a last one for the tracer.

    Pages that nobody writes to take no memory.
    """

    def __init__(self, shift: int, memory: mmap.mmap | None = None) -> None:
        """`memory`: shared with a target; None: made here, for the tracer alone."""
        self.shift = max(shift, mmap.PAGESIZE.bit_length() - 1)
        self.strides = possible_processors() + 1
        size = self.strides << self.shift
        flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        self.memory = mmap.mmap(-1, size, flags=flags) if memory is None else memory

    def sum(self, offset: int) -> int:
        """A counter, over all strides."""
        starts = range(offset, self.strides << self.shift, 1 << self.shift)
        return sum(int.from_bytes(self.memory[at : at + _WORD], "little") for at in starts)

    def set_word(self, offset: int, value: int) -> None:
        """A word of the first stride."""
        self.memory[offset : offset + _WORD] = value.to_bytes(_WORD, "little")


class Tap(NamedTuple):
    """What is done at the hits of a probe's sites beside counting them, and where.

    The site's number in records is not in the plan: whoever serves a site knows it.
    """

    plan: HitPlan
    board: Board
    number: int
    """The tracer's, of the plan."""


@cache
def possible_processors() -> int:
    """One more than the highest number that a processor can have on this machine."""
    return 1 + max(int(part.rpartition("-")[2]) for part in _POSSIBLE.read_text().strip().split(","))
