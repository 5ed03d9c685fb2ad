"""Symbols and lines that were split off a file or compressed into it."""

import lzma
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from uprobes.errors import InvalidElf
from uprobes.spec import parse
from uprobes.symbols.binary import Binary
from uprobes.symbols.locate import locate


@pytest.fixture
def split(build, tmp_path):
    """Makes a stripped program and a file with its symbols and lines; takes options of the linker."""

    def make(*options):
        program, debug = tmp_path / "program", tmp_path / "program.debug"
        shutil.copy(build("lines.c", "functions.c", "other.c", "-g", "-O0", *options), program)
        subprocess.run(["objcopy", "--only-keep-debug", program, debug], check=True)
        subprocess.run(["strip", "-s", program], check=True)
        subprocess.run(["objcopy", f"--add-gnu-debuglink={debug}", program], check=True)
        return program, debug

    return make


def place_by_build_id(program, debug, root):
    with Binary.open(str(program), debug_roots=()) as binary:
        build_id = binary.elf.build_id
    directory = root / ".build-id" / build_id[:2]
    directory.mkdir(parents=True)
    debug.rename(directory / f"{build_id[2:]}.debug")


def place_in_debug_directory(program, debug, root):
    (program.parent / ".debug").mkdir()
    debug.rename(program.parent / ".debug" / debug.name)


def place_under_root(program, debug, root):
    directory = root / str(program.parent).lstrip("/")
    directory.mkdir(parents=True)
    debug.rename(directory / debug.name)


def leave_beside(program, debug, root):
    pass


PLACES = [place_by_build_id, place_in_debug_directory, place_under_root, leave_beside]


@pytest.mark.parametrize("place", PLACES)
def test_debug_file_is_found_wherever_it_is_installed(split, line_of, tmp_path, place):
    program, debug = split()
    place(program, debug, tmp_path / "root")
    with Binary.open(str(program), debug_roots=(str(tmp_path / "root"),)) as binary:
        assert binary.functions.named("local_only")
        assert binary.has_local_symbols
        assert locate(parse(f"lines.c:{line_of('lines.c', 'after the loop')}"), binary)


def test_without_it_there_are_no_local_symbols(split, tmp_path):
    program, debug = split()
    debug.unlink()
    with Binary.open(str(program), debug_roots=(str(tmp_path / "root"),)) as binary:
        assert binary.debug_file is None
        assert binary.functions.named("local_only") == []
        assert binary.lines is None


@pytest.mark.parametrize("option", ["-Wl,--build-id=sha1", "-Wl,--build-id=none"])
def test_a_file_of_another_build_is_not_used(split, build, tmp_path, option):
    program, debug = split(option)
    with Binary.open(str(program), debug_roots=()) as binary:
        assert binary.debug_file is not None
    shutil.copy(build("sequences.c", "-g", option), debug)
    with Binary.open(str(program), debug_roots=()) as binary:
        assert binary.debug_file is None


def test_damaged_candidates_are_passed_over(split, tmp_path):
    program, debug = split()
    debug.write_bytes(b"\x7fELF nonsense")
    with Binary.open(str(program), debug_roots=()) as binary:
        assert binary.debug_file is None


def embed(program, content, directory):
    part = directory / "embedded"
    part.write_bytes(content)
    subprocess.run(["objcopy", f"--add-section=.gnu_debugdata={part}", program], check=True)


def test_embedded_symbols(build, altered, tmp_path):
    whole = build("functions.c", "other.c", "-O0")
    symbols = altered(whole, "objcopy", "--only-keep-debug")
    program = altered(whole, "strip", "-s")
    embed(program, lzma.compress(Path(symbols).read_bytes()), tmp_path)
    with Binary.open(program, debug_roots=()) as binary:
        (found,) = binary.functions.named("local_only")
        assert found.size > 0
        assert binary.has_local_symbols


def test_damaged_embedded_symbols_are_reported(build, altered, tmp_path):
    program = altered(build("functions.c", "other.c"), "strip", "-s")
    embed(program, b"no compressed bytes", tmp_path)
    with Binary.open(program, debug_roots=()) as binary, pytest.raises(InvalidElf, match=r"\.gnu_debugdata"):
        binary.functions.named("local_only")


def test_closing_closes_the_debug_file_too(split):
    program, _ = split()
    before = set(os.listdir("/proc/self/fd"))
    with Binary.open(str(program), debug_roots=()) as binary:
        assert binary.functions.named("main")
        assert len(os.listdir("/proc/self/fd")) > len(before)
    assert set(os.listdir("/proc/self/fd")) == before
