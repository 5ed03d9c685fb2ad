"""Static markers and restartable sequences, as programs list them."""

import pytest

from uprobes.symbols.elf import ElfFile
from uprobes.symbols.markers import Marker, read_markers
from uprobes.symbols.relocations import read_restartable_sequences
from uprobes.symbols.symbol_table import read_symbol_table

KINDS = [("-no-pie",), ("-pie", "-fpie"), ("-static",)]


def vaddr_of(elf, name):
    (symbol,) = read_symbol_table(elf, ".symtab").find(name)
    return symbol.vaddr


@pytest.mark.parametrize("options", KINDS)
def test_markers(build, options):
    with ElfFile(build("markers.c", *options)) as elf:
        first, second, gated = read_markers(elf)
        semaphore = vaddr_of(elf, "demo_gated_semaphore")
        assert [elf.read(marker.vaddr, 1) for marker in (first, second, gated)] == [b"\x90"] * 3
        assert first == Marker("demo", "start", first.vaddr, 0, "-4@%edi 8@%rsi")
        assert second == Marker("demo", "start", second.vaddr, 0, "-4@$1")
        assert gated == Marker("demo", "gated", gated.vaddr, semaphore, "")


def test_markers_follow_a_section_that_was_moved(build, altered):
    path = build("markers.c", "-no-pie")
    with ElfFile(path) as elf:
        before = read_markers(elf)
        base = elf.section(".stapsdt.base").vaddr
    moved = altered(path, "objcopy", f"--change-section-address=.stapsdt.base={base + 0x1000:#x}")
    with ElfFile(moved) as elf:
        after = read_markers(elf)
    assert [marker.vaddr - 0x1000 for marker in after] == [marker.vaddr for marker in before]
    assert [marker.semaphore_vaddr for marker in after[:2]] == [0, 0]
    assert after[2].semaphore_vaddr == before[2].semaphore_vaddr + 0x1000


def test_no_markers(build):
    with ElfFile(build("sequences.c")) as elf:
        assert read_markers(elf) == ()


@pytest.mark.parametrize("options", KINDS)
def test_restartable_sequences(build, options):
    with ElfFile(build("sequences.c", *options)) as elf:
        (sequence,) = read_restartable_sequences(elf)
        names = ("sequence_start", "sequence_end", "sequence_abort")
        assert sequence == tuple(vaddr_of(elf, name) for name in names)


def test_sequences_whose_addresses_are_only_in_relocations(build):
    with ElfFile(build("sequences.c", "-pie", "-fpie")) as elf:
        expected = read_restartable_sequences(elf)
        content = elf.read_section(elf.section("__rseq_cs"))
        # some linkers leave 0 where the loader will write
        elf.read_section = lambda section: bytes(16) + content[16:24] + bytes(8)
        assert read_restartable_sequences(elf) == expected


def test_no_sequences(build):
    with ElfFile(build("lines.c")) as elf:
        assert read_restartable_sequences(elf) == ()
