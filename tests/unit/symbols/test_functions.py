"""Functions by name, glob and address."""

import pytest
from elftools.elf.elffile import ELFFile

from uprobes.symbols.binary import Binary

FUNCTION_TYPES = {"STT_FUNC", "STT_LOOS"}  # pyelftools names an IFUNC by its number in the OS range


@pytest.fixture
def program(build):
    with Binary.open(build("functions.c", "other.c"), debug_roots=()) as binary:
        yield binary


def known_functions(path):
    """Name without version, address and size of every defined function, by pyelftools."""
    found = set()
    with open(path, "rb") as stream:
        elf = ELFFile(stream)
        for name in (".symtab", ".dynsym"):
            section = elf.get_section_by_name(name)
            for symbol in section.iter_symbols() if section else ():
                if symbol["st_info"]["type"] in FUNCTION_TYPES and symbol["st_shndx"] != "SHN_UNDEF":
                    found.add((symbol.name.partition("@")[0], symbol["st_value"], symbol["st_size"]))
    return found


def test_functions_of_real_libraries(library):
    with Binary.open(library, debug_roots=()) as binary:
        everything = binary.functions.matching("*")
        cold = binary.functions.matching("*.cold*")
        found = {(symbol.name, symbol.vaddr, symbol.size) for symbol in everything + cold}
    assert found == known_functions(library)


def test_each_function_is_found_by_its_name_and_address(library):
    with Binary.open(library, debug_roots=()) as binary:
        functions = binary.functions
        symbols = functions.matching("*")
        for symbol in symbols[:: max(1, len(symbols) // 100)]:
            assert symbol in functions.named(symbol.full_name if symbol.version else symbol.name)
            assert functions.at(symbol.vaddr).vaddr == symbol.vaddr
            extent = functions.extent_at(symbol.vaddr + functions.size_of(symbol) - 1)
            assert symbol.vaddr <= extent.start < extent.end


def test_no_linkage_table_entry_is_a_function(library):
    with Binary.open(library, debug_roots=()) as binary:
        tables = [s for s in binary.elf.sections if s.name.startswith(".plt")]
        assert not any(t.vaddr <= start < t.end_vaddr for t in tables for start in binary.functions.starts())


def test_local_duplicates_are_both_kept(program):
    first, second = program.functions.named("duplicate")
    assert first.vaddr < second.vaddr
    assert len(program.functions.matching("dup*")) == 2


def test_aliases_come_with_the_best_name_first(program):
    (symbol,) = program.functions.named("weak_twice")
    aliases = program.functions.aliases([symbol.vaddr])[symbol.vaddr]
    assert [alias.name for alias in aliases] == ["twice", "doubled", "weak_twice"]
    assert program.functions.at(symbol.vaddr + 1).name == "twice"


def test_a_resolver_is_marked(program):
    (resolver,) = program.functions.named("chosen")
    (plain,) = program.functions.named("twice")
    assert resolver.is_ifunc
    assert not plain.is_ifunc


def test_a_function_without_a_size_ends_with_its_unwind_entry(program):
    (symbol,) = program.functions.named("sizeless")
    assert symbol.size == 0
    assert program.functions.size_of(symbol) == 3
    assert program.functions.at(symbol.vaddr + 2).name == "sizeless"


def test_a_function_without_size_or_entry_ends_where_the_next_starts(build):
    path = build("functions.c", "other.c", "-fno-dwarf2-cfi-asm", "-fno-asynchronous-unwind-tables")
    with Binary.open(path, debug_roots=()) as binary:
        (symbol,) = binary.functions.named("_init")
        assert symbol.size == 0
        end = symbol.vaddr + binary.functions.size_of(symbol)
        assert end == next(s.end_vaddr for s in binary.elf.sections if s.name == ".init")


def test_labels_are_found_by_name_but_not_by_glob(program):
    (label,) = program.functions.named("framed_label")
    assert not label.is_function
    assert program.functions.matching("framed_lab*") == []


def test_a_label_has_a_start_only_in_an_unwind_entry(program):
    (framed,) = program.functions.named("framed_label")
    (bare,) = program.functions.named("bare_label")
    assert program.functions.extent_at(framed.vaddr) == (framed.vaddr - 1, framed.vaddr + 1)
    assert program.functions.extent_at(bare.vaddr) is None


def test_nested_functions_give_the_inner_one(program):
    (outer,) = program.functions.named("outer")
    (inner,) = program.functions.named("inner")
    assert [program.functions.at(outer.vaddr + n).name for n in range(3)] == ["outer", "inner", "outer"]
    assert program.functions.extent_at(inner.vaddr) == (inner.vaddr, inner.vaddr + 1)


def test_the_entry_point_vouches_for_itself(build, altered):
    path = build("sequences.c", "-nostartfiles", "-Wl,-e,main", "-fno-asynchronous-unwind-tables")
    with Binary.open(altered(path, "strip", "-s"), debug_roots=()) as binary:
        entry = binary.elf.entry_vaddr
        assert binary.functions.extent_at(entry + 1).start == entry


def test_stripped_programs_keep_starts(build, altered):
    path = build("functions.c", "other.c", "-O0")
    with Binary.open(path, debug_roots=()) as whole:
        (symbol,) = whole.functions.named("local_only")
    with Binary.open(altered(path, "strip", "-s"), debug_roots=()) as stripped:
        assert stripped.functions.named("local_only") == []
        assert symbol.vaddr in stripped.functions.starts()
        assert stripped.functions.extent_at(symbol.vaddr + 3) == (symbol.vaddr, symbol.vaddr + symbol.size)
        assert not stripped.has_local_symbols


@pytest.mark.parametrize("option", ["-Wl,--hash-style=gnu", "-Wl,--hash-style=sysv"])
def test_dynamic_symbols_need_no_section_headers(build, option):
    with Binary.open(build("other.c", "-shared", "-fPIC", option), debug_roots=()) as binary:
        vaddr = binary.functions.named("in_other_file")[0].vaddr
    with Binary.open(build("other.c", "-shared", "-fPIC", option), debug_roots=()) as binary:
        binary.elf.__dict__["sections"] = ()
        (symbol,) = binary.functions.matching("in_other*")
        assert (symbol.vaddr, binary.has_local_symbols) == (vaddr, False)


class TestVersions:
    @pytest.fixture(params=[False, True], ids=["whole", "stripped"])
    def library(self, build, altered, request):
        path = build("versions.c", "-shared", "-fPIC", "-Wl,--version-script", "versions.map")
        path = altered(path, "strip", "-s") if request.param else path
        with Binary.open(path, debug_roots=()) as binary:
            yield binary

    def test_without_a_version_the_default_one(self, library):
        (symbol,) = library.functions.named("measure")
        assert symbol.full_name == "measure@@V_2"

    @pytest.mark.parametrize("name", ["measure@V_1", "measure@@V_1"])
    def test_by_version(self, library, name):
        (symbol,) = library.functions.named(name)
        assert symbol.full_name == "measure@V_1"

    def test_unknown_version(self, library):
        assert library.functions.named("measure@V_3") == []
        assert sorted(library.functions.versions("measure")) == ["measure@@V_2", "measure@V_1"]

    def test_globs_take_all_versions(self, library):
        assert len(library.functions.matching("measur?")) == 2
        assert [symbol.version for symbol in library.functions.matching("*@V_1")] == ["V_1"]


def test_names_may_be_tails_of_others(build):
    path = build("other.c", "-shared", "-fPIC", "-Wl,-O2", "-Dduplicate=other_file")
    with Binary.open(path, debug_roots=()) as binary:
        assert len(binary.functions.named("other_file")) == 1
        assert binary.functions.named("ther_file") == []
