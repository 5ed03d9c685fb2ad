"""Programs made by the machine's own compiler, once a session."""

import ctypes
import ctypes.util
import functools
import itertools
import shutil
import subprocess
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """`build("a.c", "b.c", "-O2")` gives the path of what gcc makes of sources and options, in that order."""
    directory = tmp_path_factory.mktemp("programs")

    @functools.cache
    def run(*words):
        output = directory / f"program{run.cache_info().currsize}"
        command = [PROGRAMS / word if word.endswith((".c", ".map")) else word for word in words]
        subprocess.run(["gcc", *command, "-o", output], check=True)
        return str(output)

    return run


@pytest.fixture(scope="session")
def altered(tmp_path_factory):
    """`altered(path, "strip", "-g")` gives the path of a copy that the command has changed in place."""
    directory = tmp_path_factory.mktemp("altered")
    numbers = itertools.count()

    def run(path, *command):
        output = directory / f"{Path(path).name}.{next(numbers)}"
        shutil.copy(path, output)
        subprocess.run([*command, output], check=True)
        return str(output)

    return run


@pytest.fixture(scope="session")
def libraries():
    """Paths by stem of well-known libraries of this machine; those that are not installed are missing."""
    for stem in ("c", "crypto", "stdc++", "sqlite3"):
        soname = ctypes.util.find_library(stem)
        if soname:
            ctypes.CDLL(soname)
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "r-xp" in line}
    stems = {path.rpartition("/")[2].partition(".so")[0]: path for path in mapped if ".so" in path}
    program = str(Path("/proc/self/exe").resolve())
    return {**stems, "python": next((path for stem, path in stems.items() if "libpython" in stem), program)}


REAL = ["libc", "libcrypto", "libstdc++", "libsqlite3", "ld-linux-x86-64", "python"]


@pytest.fixture(params=REAL)
def library(request, libraries):
    """The path of each of some well-known libraries."""
    if request.param not in libraries:
        pytest.skip(f"{request.param} is not installed")
    return libraries[request.param]


@pytest.fixture(scope="session")
def programs():
    """Where the sources are."""
    return PROGRAMS


@pytest.fixture(scope="session")
def line_of():
    """`line_of("a.c", "words")` gives the number of the one line of a source that has the words."""

    def find(source, words):
        lines = (PROGRAMS / source).read_text().splitlines()
        (number,) = [place for place, line in enumerate(lines, 1) if words in line]
        return number

    return find
