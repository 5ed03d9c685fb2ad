"""A place in a process: where a probe goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uprobes.symbols.location import Location


@dataclass(frozen=True, slots=True)
class Place:
    """An address of one process and what is known of it.

    `start_vaddr` is where decoding may begin: the start of the function, or of the unwind entry, that covers it.
    None: nothing vouches for a start.
    """

    vaddr: int
    module: str | None = None
    symbol: str | None = None
    offset: int = 0
    start_vaddr: int | None = None
    location: Location | None = None
    """Where it is in its file, and all that is known there; None where no file is."""

    @property
    def name(self) -> str:
        """``module:symbol+0x4``, or the address."""
        if self.symbol is None:
            return f"{self.vaddr:#x}"
        place = f"{self.module.rpartition('/')[2]}:{self.symbol}" if self.module else self.symbol
        return f"{place}+{self.offset:#x}" if self.offset else place
