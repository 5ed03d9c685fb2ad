"""Every address of a file's code that something outside the code names, and the code with all of them marked.

Control comes to an address because a branch leads there, or because the address was made somewhere: by an instruction,
or by a table in the file. uprobe_core.x86.targets sees the instructions; the tables are found here.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

from uprobe_core.x86.jumps import follow_jumps
from uprobe_core.x86.landing_pads import landing_pads
from uprobe_core.x86.targets import Text
from uprobes.symbols.elf import PF_X, ElfType
from uprobes.symbols.relocations import ADDEND_OFFSET, RELOCATION, relative_places, relocation_tables
from uprobes.symbols.symbol_table import SYMBOL_SIZE

if TYPE_CHECKING:
    from uprobes.symbols.binary import Binary

SPAN_LIMIT: Final = 1 << 30
"""Bytes between the first and the last that a file loads; more in none that a linker makes."""
_INIT_ARRAYS: Final = (".preinit_array", ".init_array", ".fini_array")
_DT_INIT, _DT_FINI = 12, 13


def read_text(binary: Binary) -> Text | None:
    """The code of a file with its instructions and branch targets; None where it has none that can be known.

    Raises InvalidElf.
    """
    elf = binary.elf
    segments = [segment for segment in elf.load_segments if segment.file_size]
    executable = [segment for segment in segments if segment.flags & PF_X]
    if not executable:
        return None
    first = min(segment.vaddr for segment in segments)
    last = max(segment.vaddr + segment.file_size for segment in segments)
    if last - first > SPAN_LIMIT:
        return None
    image = bytearray(last - first)
    for segment in segments:
        content = elf.source.read(segment.offset, segment.file_size)
        image[segment.vaddr - first : segment.vaddr - first + len(content)] = content
    start = min(segment.vaddr for segment in executable)
    end = max(segment.vaddr + segment.file_size for segment in executable)
    absolute = elf.type is ElfType.EXECUTABLE
    text = Text(image, first, start, end - start, absolute=absolute)
    starts, ends = _functions(binary)
    text.sweep(starts, ends)
    _mark_tables(binary, text)
    _mark_landing_pads(binary, text)
    if absolute:
        text.mark(image)
    units = _apart(starts, ends)
    framed = bytes(binary.functions.frames.begins_framed(start) for start in units[0])
    follow_jumps(text, *units, framed)
    for each in binary.forbidden:
        text.forbid(each.start, each.end)
    return text


def _functions(binary: Binary) -> tuple[array[int], array[int]]:
    """Starts and ends of everything that is known to be a function, by start."""
    functions = binary.functions
    extents = set(functions.frames.extents())
    for table in binary.symbol_tables:
        for vaddr, size in table.extents():
            if size and functions.is_code(vaddr):
                extents.add((vaddr, vaddr + size))
    ordered = sorted(extents)
    return array("Q", [start for start, _ in ordered]), array("Q", [end for _, end in ordered])


def _apart(starts: array[int], ends: array[int]) -> tuple[array[int], array[int]]:
    """Functions that overlap joined into one, so that none do."""
    firsts, lasts = array("Q"), array("Q")
    for start, end in zip(starts, ends, strict=True):
        if lasts and start < lasts[-1]:
            lasts[-1] = max(lasts[-1], end)
        else:
            firsts.append(start)
            lasts.append(end)
    return firsts, lasts


def _mark_landing_pads(binary: Binary, text: Text) -> None:
    """The places where exceptions land."""
    handlers = list(binary.functions.frames.handler_tables())
    if not handlers:
        return
    starts, places = (array("Q", column) for column in zip(*handlers, strict=True))
    first = min(places)
    section = binary.elf.section(".gcc_except_table")
    size = section.end_vaddr - first if section and section.vaddr <= first < section.end_vaddr else SPAN_LIMIT
    pads = landing_pads(binary.elf.read(first, size), first, starts, places)
    if pads is not None:
        text.mark(pads.tobytes(), entered=False)
        return
    for start in starts:  # where a table is damaged they may land anywhere
        extent = binary.functions.frames.extent_at(start)
        if extent is not None:
            text.open(*extent)


def _mark_tables(binary: Binary, text: Text) -> None:
    elf = binary.elf
    for table in binary.symbol_tables:
        text.mark(table.values, SYMBOL_SIZE, entered=False)
    for raw in relocation_tables(elf):
        # The addend of a relocation without a symbol is an address; where there is one, it is a small number.
        text.mark(raw, RELOCATION.size, ADDEND_OFFSET)
    for vaddr in relative_places(elf):
        text.mark(elf.read(vaddr, 8))
    single = [elf.entry_vaddr, *elf.dynamic.get(_DT_INIT, []), *elf.dynamic.get(_DT_FINI, [])]
    text.mark(array("Q", single).tobytes())
    for section in elf.sections:
        if section.name in _INIT_ARRAYS:
            text.mark(elf.read_section(section))
