"""From a specification to places in one file, and what is said where there are none or too many."""

import pytest

from uprobes.control_flow import Exit
from uprobes.errors import AmbiguousSymbol, SymbolNotFound
from uprobes.refusal import Refusal
from uprobes.spec import parse
from uprobes.symbols.binary import Binary
from uprobes.symbols.elf import PF_X
from uprobes.symbols.forbidden import RESTORER
from uprobes.symbols.locate import locate


@pytest.fixture
def program(build):
    with Binary.open(build("functions.c", "other.c", "-O0", "-g"), debug_roots=()) as binary:
        yield binary


def one(text, binary):
    (location,) = locate(parse(text), binary)
    return location


class TestSymbols:
    def test_a_function(self, program):
        location = one("twice", program)
        (symbol,) = program.functions.named("twice")
        assert location.module == program.path
        assert (location.symbol, location.offset, location.vaddr) == ("twice", 0, symbol.vaddr)
        assert (location.start_vaddr, location.end_vaddr) == (symbol.vaddr, symbol.vaddr + symbol.size)
        assert location.symbol_size == symbol.size
        assert location.aliases == ("doubled", "weak_twice")
        assert not location.is_ifunc
        content = program.elf.source.read(location.file_offset, 4)
        assert content == program.elf.read(symbol.vaddr, 4)

    def test_an_alias_keeps_the_name_that_was_asked_for(self, program):
        location = one("weak_twice", program)
        assert (location.symbol, location.aliases) == ("weak_twice", ("twice", "doubled"))

    def test_an_offset(self, program):
        location = one("twice+4", program)
        assert (location.offset, location.vaddr) == (4, location.start_vaddr + 4)
        assert str(location) == f"{program.name}:twice+0x4"

    def test_an_offset_past_the_end(self, program):
        size = one("twice", program).symbol_size
        assert one(f"twice+{size - 1}", program).offset == size - 1
        with pytest.raises(
            SymbolNotFound, match=rf"{size} bytes long; hint: offsets go up to \+{size - 1:#x}"
        ):
            one(f"twice+{size}", program)

    def test_a_glob_gives_each_address_once(self, program):
        found = locate(parse("*wice"), program)
        assert [location.symbol for location in found] == ["twice"]
        everything = locate(parse("*"), program)
        assert len({location.vaddr for location in everything}) == len(everything)
        assert [location.vaddr for location in everything] == sorted(
            location.vaddr for location in everything
        )

    def test_a_glob_with_an_offset_takes_the_functions_that_are_long_enough(self, program):
        assert {location.symbol for location in locate(parse("[oi]*er+1"), program)} == {"outer"}
        with pytest.raises(SymbolNotFound, match="3 bytes long"):
            locate(parse("[oi]*er+3"), program)

    def test_a_resolver(self, program):
        assert one("chosen", program).is_ifunc

    def test_a_label_in_an_unwind_entry_is_decoded_from_its_start(self, program):
        location = one("framed_label", program)
        assert location.start_vaddr == location.vaddr - 1
        assert location.offset == 0

    def test_a_bare_label_has_nothing_to_decode_from(self, program):
        location = one("bare_label", program)
        assert (location.start_vaddr, location.end_vaddr, location.symbol_size) == (None, None, 0)

    def test_ambiguous(self, program):
        with pytest.raises(AmbiguousSymbol, match="2 places") as caught:
            one("duplicate", program)
        exact = caught.value.candidates
        assert [one(text, program).symbol for text in exact] == ["duplicate"] * 2
        assert {one(text, program).vaddr for text in exact} == {
            location.vaddr for location in locate(parse("duplicat[e]"), program)
        }

    def test_ambiguous_candidates_keep_the_offset(self, program):
        with pytest.raises(AmbiguousSymbol) as caught:
            one("duplicate+4", program)
        assert [one(text, program).offset for text in caught.value.candidates] == [4, 4]

    @pytest.mark.parametrize(
        ("name", "fact", "near"),
        [
            ("twise", "no such function", "twice"),
            ("Twice", "no such function", "twice"),
            ("other_file", "no such function", "in_other_file"),
            ("counter", "it is a variable, not a function", None),
            ("__cxa_finalize", "the module only calls it", None),
            ("nothing_l?ke_it", "no function matches", None),
        ],
    )
    def test_not_found(self, program, name, fact, near):
        with pytest.raises(SymbolNotFound, match=fact) as caught:
            one(name, program)
        assert (caught.value.symbol, caught.value.module) == (name, program.name)
        assert caught.value.near[:1] == ((near,) if near else ())

    def test_not_found_in_a_stripped_file(self, build, altered):
        path = altered(build("functions.c", "other.c", "-O0"), "strip", "-s")
        with (
            Binary.open(path, debug_roots=()) as binary,
            pytest.raises(SymbolNotFound, match=f"build-id {binary.elf.build_id}"),
        ):
            one("local_only", binary)

    def test_an_unknown_version_names_the_known_ones(self, build):
        path = build("versions.c", "-shared", "-fPIC", "-Wl,--version-script", "versions.map")
        with Binary.open(path) as binary:
            assert one("measure@V_1", binary).symbol == "measure@V_1"
            assert one("measure", binary).symbol == "measure"
            with pytest.raises(SymbolNotFound, match="no such version") as caught:
                one("measure@V_3", binary)
        assert set(caught.value.near) == {"measure@V_1", "measure@@V_2"}


class TestAddresses:
    def test_inside_a_function(self, program):
        vaddr = one("twice", program).vaddr
        location = one(f"m:{vaddr + 5:#x}", program)
        assert (location.symbol, location.offset, location.start_vaddr) == ("twice", 5, vaddr)
        assert location.aliases == ("doubled", "weak_twice")

    def test_in_a_linkage_table(self, program):
        section = program.elf.section(".plt")
        location = one(f"m:{section.vaddr + 16:#x}", program)
        assert (location.symbol, location.start_vaddr) == (None, section.vaddr)
        assert str(location) == f"{program.name}:{section.vaddr + 16:#x}"

    @pytest.mark.parametrize("address", [0, 2**64 - 1])
    def test_outside_of_code(self, program, address):
        (code,) = [segment for segment in program.elf.load_segments if segment.flags & PF_X]
        with pytest.raises(SymbolNotFound, match=f"code is at {code.vaddr:#x}-{code.end_vaddr:#x}"):
            one(f"m:{address:#x}", program)


class TestReturns:
    def test_of_a_function(self, program):
        entry = one("twice", program)
        location = one("uretprobe:twice", program)
        assert program.elf.read(location.vaddr, 1) == b"\xc3"
        assert (location.symbol, location.start_vaddr) == ("twice", entry.vaddr)
        assert location.exit is Exit.RETURN
        assert location.file_offset - entry.file_offset == location.offset
        assert one(f"uretprobe:m:{entry.vaddr:#x}", program) == location

    def test_of_something_else(self, program):
        vaddr = one("twice", program).vaddr
        with pytest.raises(SymbolNotFound, match=f"hint: probe uretprobe:{program.name}:twice"):
            one(f"uretprobe:m:{vaddr + 1:#x}", program)

    def test_of_many_functions(self, program):
        found = locate(parse("uretprobe:*r"), program)
        assert {location.symbol for location in found} == {"outer"}  # inner runs on into outer

    def test_of_one_that_never_returns(self, program):
        with pytest.raises(SymbolNotFound, match="it never returns"):
            one("uretprobe:inner", program)

    def test_of_a_function_in_two_parts(self, build):
        path = build("../../../victims/returns.c", "-O2")
        with Binary.open(path, debug_roots=()) as binary:
            parts = {one("with_cold_part", binary).vaddr, one("with_cold_part.cold", binary).vaddr}
            found = locate(parse("uretprobe:with_cold_part"), binary)
        assert {location.start_vaddr for location in found} == parts
        assert {location.exit for location in found} == {Exit.RETURN}


def leavings(text, binary):
    try:
        return {(location.vaddr, location.exit) for location in locate(parse(text), binary)}
    except SymbolNotFound as error:
        return str(error).partition(": ")[2].partition(":")[2]


def test_a_stripped_library_leaves_its_functions_at_the_same_places(libraries, altered):
    """Parts that were moved away have no names there, and are told by how they are reached and what they do."""
    with Binary.open(libraries["python"], debug_roots=()) as whole:
        if not whole.has_local_symbols:
            pytest.skip("this interpreter has no local symbols")
        with Binary.open(altered(whole.path, "strip", "-s"), debug_roots=()) as stripped:
            names = [symbol.name for symbol in stripped.functions.matching("Py[A-L]*")]
            specs = [f"uretprobe:{name}" for name in names]
            differing = [spec for spec in specs if leavings(spec, whole) != leavings(spec, stripped)]
    assert len(names) > 300
    assert len(differing) <= len(names) // 200, differing


class TestLines:
    @pytest.fixture
    def lines(self, build):
        with Binary.open(build("lines.c", "-g", "-O0"), debug_roots=()) as binary:
            yield binary

    def test_a_line(self, lines, line_of, programs):
        line = line_of("lines.c", "loop body")
        location = one(f"lines.c:{line}", lines)
        assert location.symbol == "sum"
        assert location.source == f"{programs}/lines.c:{line}"
        assert location.start_vaddr == one("sum", lines).vaddr

    def test_an_inlined_line_is_in_several_places(self, lines, line_of):
        found = locate(parse(f"lines.c:{line_of('lines.c', 'inlined')}"), lines)
        assert [location.symbol for location in found] == ["sum", "sum"]

    def test_a_loop_begins_once(self, lines, line_of):
        line = line_of("lines.c", "head of the loop")
        (path,) = lines.lines.matching_files("lines.c")
        assert len(lines.lines.addresses(path, line)) > 1
        location = one(f"lines.c:{line}", lines)
        assert location.vaddr == min(lines.lines.addresses(path, line))

    def test_ways_that_part_are_all_kept(self, build, line_of):
        with Binary.open(build("lines.c", "-g", "-O2"), debug_roots=()) as binary:
            line = line_of("lines.c", "two ways")
            found = locate(parse(f"lines.c:{line}"), binary)
            (path,) = binary.lines.matching_files("lines.c")
            assert [location.vaddr for location in found] == binary.lines.addresses(path, line)

    def test_a_line_without_code_names_its_neighbours(self, lines, line_of):
        empty = line_of("lines.c", "no code")
        with pytest.raises(SymbolNotFound, match="no statement begins on that line") as caught:
            one(f"lines.c:{empty}", lines)
        assert caught.value.near[0] == f"lines.c:{empty + 1}"
        assert f"lines.c:{empty - 1}" in caught.value.near

    def test_an_unknown_file(self, lines):
        with pytest.raises(SymbolNotFound, match=r"source file; hint: did you mean lines\.c") as caught:
            one("line.c:4", lines)
        assert caught.value.symbol == "line.c:4"

    def test_no_debug_information(self, build):
        with (
            Binary.open(build("lines.c"), debug_roots=()) as binary,
            pytest.raises(SymbolNotFound, match="no line table; hint: compile it with -g"),
        ):
            one("lines.c:4", binary)

    def test_two_files_of_one_name(self, tmp_path, build, programs):
        for directory in ("one", "two"):
            (tmp_path / directory).mkdir()
            (tmp_path / directory / "same.c").write_text(f"int {directory}(void)\n{{\n    return 1;\n}}\n")
        sources = [str(tmp_path / directory / "same.c") for directory in ("one", "two")]
        with Binary.open(build(*sources, "-g", "-shared", "-fPIC"), debug_roots=()) as binary:
            with pytest.raises(AmbiguousSymbol) as caught:
                one("same.c:3", binary)
            assert [one(text, binary).symbol for text in caught.value.candidates] == ["one", "two"]
            assert one("two/same.c:3", binary).symbol == "two"


class TestMarkers:
    @pytest.fixture
    def marked(self, build):
        with Binary.open(build("markers.c"), debug_roots=()) as binary:
            yield binary

    @pytest.mark.parametrize(
        ("text", "count"),
        [("usdt:demo:start", 2), ("usdt:demo:gated", 1), ("usdt:demo:*", 3), ("usdt:*:g*", 1)],
    )
    def test_found(self, marked, text, count):
        found = locate(parse(text), marked)
        assert len(found) == count
        assert {location.symbol for location in found} == {"main"}
        assert all(location.marker.vaddr == location.vaddr for location in found)

    def test_not_found(self, marked):
        with pytest.raises(SymbolNotFound, match="no such marker") as caught:
            one("usdt:demo:stort", marked)
        assert caught.value.near == ("demo:start",)

    def test_no_markers(self, program):
        with pytest.raises(SymbolNotFound, match="the file has no markers"):
            one("usdt:demo:start", program)


class TestForbidden:
    def test_restartable_sequences_and_the_signature_of_their_handlers(self, build):
        with Binary.open(build("sequences.c"), debug_roots=()) as binary:
            start, end, abort = (
                binary.functions.named(f"sequence_{name}")[0].vaddr for name in ("start", "end", "abort")
            )
            refused = [vaddr for vaddr in range(start - 8, abort + 8) if binary.refusal_at(vaddr) is Refusal.RSEQ]
            assert refused == sorted({*range(start, end), *range(abort - 4, abort)})
            assert one("sequence_start", binary).refusal is Refusal.RSEQ
            assert one("main", binary).refusal is None

    def test_the_signal_restorer(self, libraries):
        with Binary.open(libraries["libc"], debug_roots=()) as binary:
            codes = [(start, binary.elf.read(start, end - start)) for start, end in binary.elf.code_ranges]
            restorer = next(start + code.index(RESTORER) for start, code in codes if RESTORER in code)
            location = one(f"m:{restorer:#x}", binary)
            assert location.refusal is Refusal.RESTORER
            assert one(f"m:{restorer + 7:#x}", binary).refusal is Refusal.RESTORER
            assert one(f"m:{restorer + len(RESTORER):#x}", binary).refusal is None
