"""Which execution of a source line an address belongs to: the function's own, or that of an inlined copy.

Read by pyelftools from one compilation unit of .debug_info, and only when a line has several stretches of
code in one function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uprobes.symbols.elf import reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from elftools.dwarf.compileunit import CompileUnit
    from elftools.dwarf.die import DIE
    from elftools.dwarf.dwarfinfo import DWARFInfo

    from uprobes.symbols.elf import ElfFile

_SCOPES = frozenset({"DW_TAG_namespace", "DW_TAG_module", "DW_TAG_class_type", "DW_TAG_structure_type"})
_LINKS = ("DW_AT_abstract_origin", "DW_AT_specification")
_LONGEST_CHAIN = 4
_BLOCKS = frozenset({"DW_TAG_lexical_block", "DW_TAG_try_block", "DW_TAG_catch_block"})
_FUNCTIONS = frozenset({"DW_TAG_subprogram", "DW_TAG_inlined_subroutine"})


def group_by_instance(elf: ElfFile, vaddrs: list[int], path: str, line: int) -> list[list[int]]:
    """Those addresses of a source line that certainly belong to one function, or to one inlined copy of one, together.

    What the debug information does not tell, or tells in contradiction to the line, is left out. InvalidElf where it
    is damaged.
    """
    if elf.section(".debug_info") is None:
        return []
    groups: dict[int, list[int]] = {}
    with reading(elf.path, ".debug_info"):
        dwarf = elf.pyelf.get_dwarf_info(follow_links=False)
        for vaddr in vaddrs:
            unit = _find_unit(dwarf, vaddr)
            instance = _find_instance(unit, vaddr) if unit else None
            if unit and instance and _declaration(instance) == _owner_of(unit, path, line):
                groups.setdefault(instance.offset, []).append(vaddr)
    return list(groups.values())


def _find_instance(unit: CompileUnit, vaddr: int) -> DIE | None:
    """The innermost function, inlined or not, that covers an address."""
    found = None
    die: DIE | None = unit.get_top_DIE()
    while die is not None:
        if die.tag in _FUNCTIONS:
            found = die
        die = next((child for child in _inner(die) if _covers(child, unit, vaddr)), None)
    return found


def _declaration(die: DIE) -> tuple[int, int] | None:
    """File number and line where a function was declared, by itself or by what it is a copy of."""
    for _ in range(_LONGEST_CHAIN):
        number, line = die.attributes.get("DW_AT_decl_file"), die.attributes.get("DW_AT_decl_line")
        if number and line:
            return number.value, line.value
        link = next((name for name in _LINKS if name in die.attributes), None)
        if link is None:
            return None
        die = die.get_DIE_from_attribute(link)
    return None


def _owner_of(unit: CompileUnit, path: str, line: int) -> tuple[int, int] | None:
    """The declaration of the function that `line` is in: the last that is declared before it in the file."""
    numbers = _file_numbers(unit, path)
    found = [_declaration(die) for die in _functions(unit.get_top_DIE())]
    return max((each for each in found if each and each[0] in numbers and each[1] <= line), key=_line, default=None)


def _line(declaration: tuple[int, int]) -> int:
    return declaration[1]


def _functions(die: DIE) -> Iterator[DIE]:
    """All functions declared in a unit, in classes too."""
    for child in die.iter_children():
        if child.tag == "DW_TAG_subprogram":
            yield child
        elif child.tag in _SCOPES:
            yield from _functions(child)


def _file_numbers(unit: CompileUnit, path: str) -> set[int]:
    """The numbers that a unit gives to files whose name is that of `path`."""
    program = unit.dwarfinfo.line_program_for_CU(unit)
    name = path.rpartition("/")[2].encode("utf-8", "surrogateescape")
    entries = program["file_entry"] if program else []
    first = 0 if unit["version"] >= 5 else 1  # before DWARF 5 files count from 1
    return {number for number, entry in enumerate(entries, first) if entry.name.rpartition(b"/")[2] == name}


def _find_unit(dwarf: DWARFInfo, vaddr: int) -> CompileUnit | None:
    aranges = dwarf.get_aranges()
    offset = aranges.cu_offset_at_addr(vaddr) if aranges else None
    if offset is not None:
        return dwarf.get_CU_at(offset)
    return next((unit for unit in dwarf.iter_CUs() if _covers(unit.get_top_DIE(), unit, vaddr)), None)


def _inner(die: DIE) -> Iterator[DIE]:
    """The functions and blocks directly in a scope."""
    for child in die.iter_children():
        if child.tag in _SCOPES:
            yield from _inner(child)
        elif child.tag in _FUNCTIONS or child.tag in _BLOCKS:
            yield child


def _covers(die: DIE, unit: CompileUnit, vaddr: int) -> bool:
    return any(start <= vaddr < end for start, end in _ranges(die, unit))


def _ranges(die: DIE, unit: CompileUnit) -> Iterator[tuple[int, int]]:
    """The half-open ranges of addresses of an entry (DWARF 5, section 2.17)."""
    low, high = die.attributes.get("DW_AT_low_pc"), die.attributes.get("DW_AT_high_pc")
    if low and high:
        # an address itself, or else the number of bytes
        yield low.value, high.value if high.form.startswith("DW_FORM_addr") else low.value + high.value
    elif "DW_AT_ranges" in die.attributes:
        from elftools.dwarf.ranges import BaseAddressEntry

        lists = unit.dwarfinfo.range_lists()
        unit_low = unit.get_top_DIE().attributes.get("DW_AT_low_pc")
        base = unit_low.value if unit_low else 0
        entries = lists.get_range_list_at_offset(die.attributes["DW_AT_ranges"].value, unit) if lists else []
        for entry in entries:
            if isinstance(entry, BaseAddressEntry):
                base = entry.base_address
            elif entry.is_absolute:
                yield entry.begin_offset, entry.end_offset
            else:
                yield base + entry.begin_offset, base + entry.end_offset
