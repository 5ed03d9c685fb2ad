"""The instructions by which functions are left."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from uprobes.control_flow import ControlFlow, UnknownJump
from uprobes.errors import SymbolNotFound
from uprobes.symbols.functions import Extent

if TYPE_CHECKING:
    from uprobes.symbols.binary import Binary
    from uprobes.symbols.location import Location


def locate_exits(binary: Binary, entries: list[Location]) -> list[Location]:
    """Where the functions are left for good that begin at `entries`; those of which that is not known are left out.

    SymbolNotFound where it is known of none.
    """
    found: list[Location] = []
    for entry in entries:
        try:
            found += _exits_of(binary, entry)
        except SymbolNotFound:
            if len(entries) == 1:
                raise
    if not found:
        raise SymbolNotFound(entries[0].name, binary.name, fact=f"none of {len(entries)} functions is known to return")
    return found


def _exits_of(binary: Binary, entry: Location) -> list[Location]:
    """Where the function leaves that begins at `entry`, in the parts that the compiler moved away, too."""
    if entry.symbol is None or entry.offset or entry.end_vaddr is None:
        hint = f"probe uretprobe:{entry.module_name}:{entry.symbol}" if entry.symbol else None
        fact = "it is not the entry of a function, and only a function returns"
        raise SymbolNotFound(entry.name, entry.module_name, fact=fact, hint=hint)
    parts = [Extent(entry.vaddr, entry.end_vaddr), *binary.functions.cold_parts(entry.symbol)]

    def is_inside(vaddr: int) -> bool:
        return any(part.start <= vaddr < part.end for part in parts)

    found = []
    for part in parts:
        flow = ControlFlow(binary.elf.read(part.start, part.end - part.start), part.start)
        try:
            for vaddr, manner in flow.exits(is_inside):
                offset = binary.file_offset(vaddr)
                found.append(replace(entry, vaddr=vaddr, file_offset=offset, start_vaddr=part.start, exit=manner))
        except UnknownJump as jump:
            raise SymbolNotFound(entry.name, entry.module_name, fact=str(jump)) from jump
    if not found:
        raise SymbolNotFound(entry.name, entry.module_name, fact="it never returns")
    return found
