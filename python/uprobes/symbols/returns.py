"""The instructions by which functions are left."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from uprobes.control_flow import ControlFlow, UnknownJump
from uprobes.errors import SymbolNotFound
from uprobes.symbols.functions import Extent

if TYPE_CHECKING:
    from uprobes.control_flow import Exit
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
    try:
        found = _Function(binary, Extent(entry.vaddr, entry.end_vaddr)).exits()
    except UnknownJump as jump:
        raise SymbolNotFound(entry.name, entry.module_name, fact=str(jump)) from jump
    if not found:
        raise SymbolNotFound(entry.name, entry.module_name, fact="it never returns")
    return [
        replace(
            entry,
            vaddr=vaddr,
            file_offset=binary.file_offset(vaddr),
            start_vaddr=start,
            exit=manner,
            refusal=binary.refusal_at(vaddr),
        )
        for vaddr, manner, start in found
    ]


class _Function:
    """A function with the parts that the compiler moved away from it, as it does with what is seldom run.

    They are reached by jumps, as are other functions in a tail call. Where a symbol tells them apart (`f.cold`) it is
    believed; else a part is what jumps back into the function, runs in its frame, or never returns.
    """

    def __init__(self, binary: Binary, body: Extent) -> None:
        self._binary = binary
        self._body = body
        self._flows: dict[Extent, ControlFlow] = {}
        self._add(body)

    def _add(self, part: Extent) -> None:
        """Add a part, and those that can be reached from it."""
        flow = self._flows[part] = _control_flow(self._binary, part)
        for target in flow.outer_targets:
            if not self._is_inside(target):
                other = self._moved_part(target)
                if other is not None:
                    self._add(other)

    def _is_inside(self, vaddr: int) -> bool:
        return any(part.start <= vaddr < part.end for part in self._flows)

    def _moved_part(self, target: int) -> Extent | None:
        """The part that a jump to `target` leads to; None if that is another function."""
        functions = self._binary.functions
        if not functions.is_code(target):  # the linkage table: a function of another file
            return None
        symbol = functions.at(target)
        if symbol is not None:
            return functions.extent_of(symbol) if ".cold" in symbol.name else None
        extent = functions.extent_at(target)
        if extent is None:
            return None
        if target != extent.start or functions.frames.begins_framed(extent.start):
            return extent
        flow = _control_flow(self._binary, extent)
        comes_back = any(self._body.start < back < self._body.end for back in flow.outer_targets)
        return extent if comes_back or not any(flow.exits(lambda _: False)) else None

    def exits(self) -> list[tuple[int, Exit, int]]:
        """Address and manner of each exit, and the start of the part that it is in. UnknownJump."""
        return [
            (vaddr, manner, part.start)
            for part, flow in self._flows.items()
            for vaddr, manner in flow.exits(self._is_inside)
        ]


def _control_flow(binary: Binary, extent: Extent) -> ControlFlow:
    return ControlFlow(binary.elf.read(extent.start, extent.end - extent.start), extent.start)
