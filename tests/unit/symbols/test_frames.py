"""Unwind entries: the same starts and ends as pyelftools finds, with and without the search table."""

import bisect

import pytest
from elftools.dwarf.callframe import FDE
from elftools.elf.elffile import ELFFile

from uprobes.symbols.binary import Binary
from uprobes.symbols.elf import PT_GNU_EH_FRAME, ElfFile
from uprobes.symbols.frames import FrameTable


def known_extents(path):
    with open(path, "rb") as stream:
        entries = ELFFile(stream).get_dwarf_info().EH_CFI_entries()
        fdes = [entry for entry in entries if isinstance(entry, FDE)]
        return sorted(
            {(fde["initial_location"], fde["initial_location"] + fde["address_range"]) for fde in fdes}
        )


def test_extents_of_real_libraries(library):
    with ElfFile(library) as elf:
        assert list(FrameTable(elf).extents()) == known_extents(library)


@pytest.mark.parametrize("options", [("-O2",), ("-static",), ("-no-pie", "-fno-asynchronous-unwind-tables")])
def test_extents_of_programs(build, options):
    path = build("functions.c", "other.c", *options)
    with ElfFile(path) as elf:
        assert list(FrameTable(elf).extents()) == known_extents(path)


def test_extents_without_the_search_table(build):
    with ElfFile(build("functions.c", "other.c")) as elf:
        expected = list(FrameTable(elf).extents())
        elf.segments = tuple(segment for segment in elf.segments if segment.type != PT_GNU_EH_FRAME)
        assert expected
        assert list(FrameTable(elf).extents()) == expected


def test_extents_without_section_headers(build):
    with ElfFile(build("functions.c", "other.c")) as elf:
        expected = list(FrameTable(elf).extents())
        elf.__dict__["sections"] = ()
        assert list(FrameTable(elf).extents()) == expected


def test_every_address_has_the_extent_that_covers_it(library):
    with ElfFile(library) as elf:
        frames = FrameTable(elf)
        extents = list(frames.extents())
        starts = [start for start, _ in extents]
        for start, end in extents[:: max(1, len(extents) // 200)]:
            assert frames.extent_at(start) == (start, end)
            assert frames.extent_at(end - 1) == (start, end)
            after = extents[bisect.bisect_right(starts, end) - 1]
            assert frames.extent_at(end) == (after if after[0] <= end < after[1] else None)
        assert frames.extent_at(0) is None
        assert frames.extent_at(2**63) is None


def test_a_file_without_entries_has_none(build):
    path = build("other.c", "-shared", "-fPIC", "-nostdlib", "-fno-asynchronous-unwind-tables")
    with ElfFile(path) as elf:
        frames = FrameTable(elf)
        assert list(frames.extents()) == []
        assert frames.extent_at(elf.section(".text").vaddr) is None


def test_a_part_that_was_moved_away_begins_in_a_frame(build):
    with Binary.open(build("../../../victims/returns.c", "-O2"), debug_roots=()) as binary:
        frames = binary.functions.frames
        (part,) = binary.functions.named("with_cold_part_in_frame.cold")
        assert frames.begins_framed(part.vaddr)
        assert not frames.begins_framed(part.vaddr + 1)
        for name in ("with_cold_part_in_frame", "one_return", "main", "_start"):
            (function,) = binary.functions.named(name)
            assert not frames.begins_framed(function.vaddr)
