"""A damaged file gives an error of this package or some answer: never another exception, never a hang."""

import subprocess
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uprobes.errors import UprobeError
from uprobes.spec import parse
from uprobes.symbols.binary import Binary
from uprobes.symbols.elf import ElfFile
from uprobes.symbols.locate import locate
from uprobes.symbols.source import BytesSource

SOURCE = """
static int duplicate(int x) { return x + 1; }
int main(void) { return duplicate(1); }
__asm__(".pushsection .note.stapsdt,\\"?\\",\\"note\\"; .4byte 8,30,3; .asciz \\"stapsdt\\";"
        ".8byte main,0,0; .asciz \\"p\\"; .asciz \\"n\\"; .asciz \\"\\"; .balign 4; .popsection");
"""
SPECS = ["main", "*", "main+1", "duplicate", "mian", "m:0x1139", "program.c:2", "usdt:p:n"]


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    directory = tmp_path_factory.mktemp("damaged")
    (directory / "program.c").write_text(SOURCE)
    subprocess.run(["gcc", "-g", "program.c", "-o", "program"], cwd=directory, check=True)
    return (directory / "program").read_bytes()


def use(damaged):
    """Everything that can be asked of a file."""
    with Binary(ElfFile("damaged", BytesSource(damaged)), debug_roots=()) as binary:
        for spec in SPECS:
            with suppress(UprobeError):
                locate(parse(spec), binary)
        for ask in (
            lambda: binary.elf.type,
            lambda: binary.elf.soname,
            lambda: binary.elf.build_id,
            lambda: binary.debug_file,
            lambda: binary.functions.starts(),
            lambda: binary.refusal_at(0x1139),
        ):
            with suppress(UprobeError):
                ask()


def test_the_whole_file_answers(content):
    with Binary(ElfFile("whole", BytesSource(content)), debug_roots=()) as binary:
        assert [len(locate(parse(spec), binary)) for spec in ("main", "usdt:p:n", "program.c:3")] == [1, 1, 1]


SLOW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SLOW
@given(st.data())
def test_cut_anywhere(content, data):
    with suppress(UprobeError):
        use(content[: data.draw(st.integers(0, len(content)))])


PLACES = st.floats(0, 1, exclude_max=True)
CHANGES = st.tuples(PLACES, st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]), st.integers(1, 8))


@SLOW
@given(st.lists(CHANGES, min_size=1, max_size=12), st.booleans())
def test_bytes_overwritten(content, changes, in_headers):
    damaged = bytearray(content)
    for place, value, count in changes:
        start = int(place * (0x400 if in_headers else len(damaged)))
        damaged[start : start + count] = bytes([value]) * min(count, len(damaged) - start)
    with suppress(UprobeError):
        use(bytes(damaged))


@SLOW
@given(PLACES, st.binary(min_size=1, max_size=16))
def test_section_headers_overwritten(content, place, garbage):
    table = int.from_bytes(content[0x28:0x30], "little")
    damaged = bytearray(content)
    start = table + int(place * (len(content) - table))
    damaged[start : start + len(garbage)] = garbage
    with suppress(UprobeError):
        use(bytes(damaged[: len(content)]))
