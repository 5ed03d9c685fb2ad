"""Headers, segments, notes and the dynamic section, of programs of every kind."""

import os
import struct
from pathlib import Path

import pytest

from uprobes.errors import InvalidElf, UnsupportedTarget
from uprobes.symbols.elf import PF_X, ElfFile, ElfType
from uprobes.symbols.source import BytesSource, FileSource


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (("-pie", "-fpie"), ElfType.PIE),
        (("-no-pie",), ElfType.EXECUTABLE),
        (("-static",), ElfType.EXECUTABLE),
        (("-static-pie", "-fpie"), ElfType.PIE),
        (("-shared", "-fPIC"), ElfType.SHARED),
    ],
)
def test_type(build, options, kind):
    with ElfFile(build("sequences.c", *options)) as elf:
        assert elf.type is kind


def test_soname(build):
    with ElfFile(build("other.c", "-shared", "-fPIC", "-Wl,-soname,libother.so.2")) as elf:
        assert elf.soname == "libother.so.2"
    with ElfFile(build("sequences.c")) as elf:
        assert elf.soname is None


@pytest.mark.parametrize(("option", "build_id"), [("0xc0ffee00", "c0ffee00"), ("none", None)])
def test_build_id(build, option, build_id):
    with ElfFile(build("sequences.c", f"-Wl,--build-id={option}")) as elf:
        assert elf.build_id == build_id


def test_an_open_descriptor_is_enough(build):
    descriptor = os.open(build("sequences.c"), os.O_RDONLY)
    with ElfFile("another name", FileSource(lambda: os.dup(descriptor))) as elf:
        assert elf.path == "another name"
        assert elf.section(".text") is not None
    os.close(descriptor)


def test_a_closed_file_is_opened_again_when_needed(build):
    before = os.listdir("/proc/self/fd")
    elf = ElfFile(build("sequences.c"))
    elf.close()
    assert os.listdir("/proc/self/fd") == before
    assert elf.section(".text") is not None
    elf.close()
    elf.close()
    assert os.listdir("/proc/self/fd") == before


def test_a_file_that_was_replaced_meanwhile_is_not_mixed_with_the_old_one(build, altered):
    path = altered(build("sequences.c"), "strip", "-g")
    elf = ElfFile(path)
    elf.close()
    with open(path, "ab") as file:
        file.write(b"more")
    with pytest.raises(OSError, match="changed while it was in use"):
        elf.section(".text")


def test_addresses_and_offsets(build):
    with ElfFile(build("sequences.c", "-no-pie")) as elf:
        text = elf.section(".text")
        assert elf.vaddr_to_offset(text.vaddr) == text.offset
        assert elf.offset_to_vaddr(text.offset) == text.vaddr
        assert elf.read(text.vaddr, 16) == elf.read_section(text)[:16]
        assert elf.vaddr_to_offset(0) is None
        assert elf.read(0, 16) == b""
        bss = elf.section(".bss")
        assert elf.vaddr_to_offset(bss.end_vaddr) is None


def test_code_is_executable_and_no_linkage_table(build):
    with ElfFile(build("functions.c", "other.c")) as elf:
        names = {section.name: section.vaddr for section in elf.sections}
        starts = [start for start, _ in elf.code_ranges]
        assert names[".text"] in starts
        assert names[".plt"] not in starts
        assert names[".data"] not in starts


def test_without_section_headers_code_is_what_is_loaded_executable(build):
    content = bytearray(Path(build("functions.c", "other.c")).read_bytes())
    content[0x28:0x30] = bytes(8)  # e_shoff
    content[0x3C:0x40] = bytes(4)  # e_shnum, e_shstrndx
    with ElfFile("no sections", BytesSource(bytes(content))) as elf:
        assert elf.sections == ()
        (segment,) = [segment for segment in elf.load_segments if segment.flags & PF_X]
        assert elf.code_ranges == ((segment.vaddr, segment.end_vaddr),)


@pytest.mark.parametrize("compression", ["zlib", "none"])
def test_sections_come_decompressed(build, compression):
    with ElfFile(build("lines.c", "-g", f"-gz={compression}")) as elf:
        section = elf.section(".debug_line")
        assert len(elf.read_section(section)) > 50
        assert b"lines.c" in elf.read_section(elf.section(".debug_line_str"))


def header(bits=64, machine=62, segment_size=56, segment_count=0):
    ident = bytes([0x7F, *b"ELF", bits // 32, 1, 1])
    return struct.pack(
        "<16sHHIQQQI6H", ident, 2, machine, 1, 0, 64, 0, 0, 64, segment_size, segment_count, 0, 0, 0
    )


@pytest.mark.parametrize(
    ("content", "kind", "fact"),
    [
        (b"", InvalidElf, "starts with nothing"),
        (b"#!/bin/sh\n", InvalidElf, "starts with 23 21 2f 62"),
        (header()[:7], InvalidElf, "ends in its header, after 7 bytes"),
        (header(bits=32, machine=3), UnsupportedTarget, "32-bit i386 code"),
        (header(machine=183), UnsupportedTarget, "64-bit aarch64 code"),
        (header(segment_size=32, segment_count=1), InvalidElf, "program headers of 32 bytes"),
        (header(segment_count=90), InvalidElf, "program headers run past its end"),
    ],
)
def test_what_is_no_program_is_refused(content, kind, fact):
    with pytest.raises(kind, match=fact):
        ElfFile("file", BytesSource(content))


def test_an_object_file_is_named_as_such(build):
    with ElfFile(build("sequences.c", "-c")) as elf, pytest.raises(InvalidElf, match="was not linked"):
        assert elf.type


def test_text_relocations_are_known(build):
    with ElfFile(build("sequences.c")) as elf:
        assert not elf.has_text_relocations
    with ElfFile(build("text_relocation.c", "-shared", "-fPIC", "-Wl,-z,notext")) as elf:
        assert elf.has_text_relocations
