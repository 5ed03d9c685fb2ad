"""Source lines to addresses. Headers are read to find the units that name the file; only those are run."""

from __future__ import annotations

import posixpath
from functools import cached_property
from typing import TYPE_CHECKING

from uprobes.errors import InvalidElf
from uprobes.symbols.line_program import DwarfError, LineReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uprobes.symbols.elf import ElfFile
    from uprobes.symbols.line_program import Row, Unit


class LineTable:
    """The lines of one file, from the sections of `elf`, which may be its debug file."""

    def __init__(self, elf: ElfFile) -> None:
        """Reads nothing yet."""
        self.elf = elf

    def __bool__(self) -> bool:
        """Whether there are any lines."""
        return self.elf.section(".debug_line") is not None

    @cached_property
    def _reader(self) -> LineReader:
        sections = map(self.elf.section, (".debug_line", ".debug_line_str", ".debug_str"))
        return LineReader(*(self.elf.read_section(section) if section else b"" for section in sections))

    @cached_property
    def _units(self) -> list[Unit]:
        try:
            return list(self._reader.units())
        except DwarfError as error:
            raise InvalidElf(self.elf.path, f".debug_line: {error}") from error

    @cached_property
    def files(self) -> frozenset[str]:
        """The paths of all source files, as the compiler was given them, without `..`."""
        return frozenset(path for unit in self._units for path in unit.files)

    def matching_files(self, name: str) -> list[str]:
        """The source files that `name` can mean: the path itself, or one that ends with it after a `/`."""
        wanted = posixpath.normpath(name)
        return sorted(path for path in self.files if _means(wanted, path))

    def rows(self, path: str) -> Iterator[tuple[Row, bool]]:
        """Every row of the units that name `path`, and whether it is of that file."""
        for unit in self._units:
            if path in unit.files:
                numbers = {number for number, name in enumerate(unit.files) if name == path}
                try:
                    for row in self._reader.rows(unit):
                        yield row, row.file in numbers and not row.ends
                except DwarfError as error:
                    raise InvalidElf(self.elf.path, f".debug_line: {error}") from error

    def addresses(self, path: str, line: int) -> list[int]:
        """Every address at which code of `line` begins as a statement, sorted."""
        found = set()
        begun = False
        for row, of_file in self.rows(path):
            here = of_file and row.line == line
            if here and row.is_statement and not begun:
                found.add(row.vaddr)
            begun = here and (begun or row.is_statement)
        return sorted(found)

    def lines(self, path: str) -> list[int]:
        """The lines of `path` that have statements, sorted."""
        return sorted({row.line for row, of_file in self.rows(path) if of_file and row.is_statement})


def _means(wanted: str, path: str) -> bool:
    if path == wanted or path.endswith("/" + wanted):
        return True
    # before DWARF 5 the directory of compilation is not in these sections, so the path may be the shorter one
    return wanted.startswith("/") and not path.startswith("/") and path != "" and wanted.endswith("/" + path)
