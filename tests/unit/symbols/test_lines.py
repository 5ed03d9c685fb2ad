"""Line tables: the same rows as pyelftools, over DWARF versions; files by the tail of their path."""

import pytest
from elftools.elf.elffile import ELFFile

from uprobes.errors import InvalidElf
from uprobes.symbols.elf import ElfFile
from uprobes.symbols.line_program import DwarfError, LineReader
from uprobes.symbols.line_table import LineTable

VERSIONS = [
    ("-gdwarf-2", "-gstrict-dwarf"),
    ("-gdwarf-3",),
    ("-gdwarf-4",),
    ("-gdwarf-5",),
    ("-gdwarf-5", "-O2"),
]
NAMES = ["lines.c", "programs/lines.c", "./lines.c", "programs/../programs/lines.c"]


def known_rows(path):
    """Address, file number, line, statement and end of every row, by pyelftools."""
    with open(path, "rb") as stream:
        dwarf = ELFFile(stream).get_dwarf_info(follow_links=False)
        for unit in dwarf.iter_CUs():
            program = dwarf.line_program_for_CU(unit)
            for entry in program.get_entries():
                if state := entry.state:
                    # at the end of a sequence pyelftools clears is_stmt
                    yield state.address, state.file, state.line, bool(state.is_stmt), state.end_sequence


def our_rows(path):
    with ElfFile(path) as elf:
        names = (".debug_line", ".debug_line_str", ".debug_str")
        sections = [elf.section(name) for name in names]
        reader = LineReader(*(elf.read_section(section) if section else b"" for section in sections))
        for unit in reader.units():
            for row in reader.rows(unit):
                yield row.vaddr, row.file, row.line, row.is_statement and not row.ends, row.ends


@pytest.mark.parametrize("options", VERSIONS)
def test_rows(build, options):
    path = build("lines.c", "functions.c", "other.c", *options)
    rows = list(our_rows(path))
    assert rows == list(known_rows(path))
    assert len(rows) > 20


def test_rows_of_a_large_library(libraries):
    path = libraries["python"]
    with ElfFile(path) as elf:
        if not LineTable(elf):
            pytest.skip("this interpreter has no debug information")
    for place, (ours, known) in enumerate(zip(our_rows(path), known_rows(path), strict=False)):
        assert ours == known
        if place == 100_000:
            break


@pytest.mark.parametrize("options", VERSIONS)
def test_addresses_of_a_line(build, line_of, options):
    with ElfFile(build("lines.c", "-fno-inline", *options)) as elf:
        table = LineTable(elf)
        (path,) = table.matching_files("lines.c")
        after, empty = line_of("lines.c", "after the loop"), line_of("lines.c", "no code")
        assert table.addresses(path, after)
        assert after in table.lines(path)
        assert table.addresses(path, empty) == []
        assert empty not in table.lines(path)


@pytest.mark.parametrize("options", VERSIONS)
@pytest.mark.parametrize("name", [*NAMES, None])
def test_a_file_is_named_by_its_tail(build, programs, options, name):
    source = str(programs / "lines.c")
    with ElfFile(build("lines.c", *options)) as elf:
        assert LineTable(elf).matching_files(name or source) == [source]


@pytest.mark.parametrize("name", ["ines.c", "lines", "other/lines.c", "/lines.c", ""])
def test_other_names_do_not_match(build, name):
    with ElfFile(build("lines.c", "-g")) as elf:
        assert LineTable(elf).matching_files(name) == []


def test_no_table(build):
    with ElfFile(build("lines.c")) as elf:
        assert not LineTable(elf)


@pytest.mark.parametrize("cut", [3, 10, 20, 60])
def test_damage_is_reported(build, cut):
    with ElfFile(build("lines.c", "-g")) as elf:
        content = elf.read_section(elf.section(".debug_line"))
        strings = elf.read_section(elf.section(".debug_line_str"))
        with pytest.raises(DwarfError):
            list(LineReader(content[:cut], strings, b"").units())
        elf.read_section = lambda section: content[:cut]
        with pytest.raises(InvalidElf, match=r"\.debug_line"):
            LineTable(elf).matching_files("lines.c")
