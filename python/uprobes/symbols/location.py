"""Where a probe's place is in a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uprobes.control_flow import Exit
    from uprobes.refusal import Refusal
    from uprobes.symbols.markers import Marker


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """One address of one file, and what is known about it. Addresses are the file's own (`vaddr`)."""

    module: str
    """The file's path."""
    vaddr: int
    file_offset: int
    """Of the byte at `vaddr`."""
    symbol: str | None = None
    """The function that covers it; None where no name is known."""
    symbol_vaddr: int | None = None
    symbol_size: int = 0
    """In bytes; 0 where it is unknown."""
    start_vaddr: int | None = None
    """An address at or before it where an instruction begins, to decode from; None if none is known."""
    end_vaddr: int | None = None
    """Where the function, or whatever begins at `start_vaddr`, ends."""
    is_ifunc: bool = False
    """Whether it is a resolver, that the loader calls once to choose the function that programs then call."""
    aliases: tuple[str, ...] = ()
    """Other names for the function."""
    source: str | None = None
    """As FILE:LINE, where the place was found by its line."""
    marker: Marker | None = None
    """The static marker, where the place was found by one."""

    exit: Exit | None = None
    """How the function is left there, where the place was found as one of its returns."""

    refusal: Refusal | None = None
    """Why it cannot be probed, as far as the file itself tells."""

    @property
    def offset(self) -> int:
        """Bytes from the symbol's start; 0 without a symbol."""
        return 0 if self.symbol_vaddr is None else self.vaddr - self.symbol_vaddr

    @property
    def module_name(self) -> str:
        """The last part of the module's path."""
        return self.module.rpartition("/")[2]

    @property
    def name(self) -> str:
        """Symbol and offset, or the address where there is no symbol."""
        if self.symbol is None:
            return hex(self.vaddr)
        return f"{self.symbol}+{self.offset:#x}" if self.offset else self.symbol

    def __str__(self) -> str:
        """Module and name, in the form of a probe specification."""
        return f"{self.module_name}:{self.name}"
