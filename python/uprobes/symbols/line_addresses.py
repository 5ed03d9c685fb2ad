"""The addresses at which a source line begins."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from uprobes.control_flow import ControlFlow
from uprobes.errors import AmbiguousSymbol, SymbolNotFound
from uprobes.symbols.inlines import group_by_instance
from uprobes.symbols.near_names import near_names

if TYPE_CHECKING:
    from uprobes.symbols.binary import Binary
    from uprobes.symbols.functions import Extent
    from uprobes.symbols.line_table import LineTable

MOST_STRETCHES: Final = 50
"""Of one line in one function, above which none is taken for another's continuation."""


def line_addresses(binary: Binary, file: str, line: int) -> list[tuple[str, int]]:
    """Where a line begins: its source, as PATH:LINE, and an address, for each place that it was compiled to.

    SymbolNotFound where there is none, AmbiguousSymbol where `file` may mean several.
    """
    place = f"{file}:{line}"
    table = binary.lines
    if table is None:
        raise SymbolNotFound(
            place,
            binary.name,
            fact="the file has no line table",
            hint="compile it with -g, or install its debug package",
        )
    paths = table.matching_files(file)
    if not paths:
        base = file.rpartition("/")[2]
        names = {path.rpartition("/")[2] for path in table.files}
        raise SymbolNotFound(place, binary.name, fact="no such source file", near=near_names(base, names))
    if len(paths) > 1:
        raise AmbiguousSymbol(f"{binary.name}:{place}", (f"{binary.name}:{path}:{line}" for path in paths))
    vaddrs = [vaddr for vaddr in table.addresses(paths[0], line) if binary.functions.is_code(vaddr)]
    if not vaddrs:
        raise _line_not_found(binary, table, paths[0], file, line)
    return [(f"{paths[0]}:{line}", vaddr) for vaddr in _beginnings(binary, table, paths[0], line, vaddrs)]


def _beginnings(binary: Binary, table: LineTable, path: str, line: int, vaddrs: list[int]) -> list[int]:
    """Without the addresses where a line only goes on that has begun elsewhere, as far as that is certain.

    The head of a loop and a call over many lines have several stretches of code, of which one is always passed first.
    An inlined copy is a beginning of its own.
    """
    by_function: dict[Extent | None, list[int]] = {}
    for vaddr in vaddrs:
        by_function.setdefault(binary.functions.extent_at(vaddr), []).append(vaddr)
    later: set[int] = set()
    for extent, inside in by_function.items():
        if extent is not None and 1 < len(inside) <= MOST_STRETCHES:
            flow = ControlFlow(binary.elf.read(extent.start, extent.end - extent.start), extent.start)
            for copy in group_by_instance(table.elf, inside, path, line):
                later |= flow.dominated(copy)
    return [vaddr for vaddr in vaddrs if vaddr not in later]


def _line_not_found(binary: Binary, table: LineTable, path: str, file: str, line: int) -> SymbolNotFound:
    lines = table.lines(path)
    place = bisect_left(lines, line)
    near = [f"{file}:{number}" for number in (*lines[place : place + 2], *lines[max(place - 1, 0) : place])]
    return SymbolNotFound(f"{file}:{line}", binary.name, fact="no statement begins on that line", near=near)
