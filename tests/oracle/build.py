"""Compiles the C programs of the tests, once per content, under build/tests/."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "tests"
WARNINGS = ("-std=gnu11", "-Wall", "-Wextra", "-Werror")


def compiler() -> str | None:
    """The C compiler to use, or None where there is none."""
    return shutil.which(os.environ.get("CC", "cc"))


def fingerprint(sources: Sequence[Path], flags: Sequence[str]) -> str:
    """A short name for what the sources, the headers beside them and the flags make."""
    content = hashlib.sha256("\0".join(flags).encode())
    headers = {header for source in sources for header in source.parent.glob("*.h")}
    for path in sorted({*sources, *headers}):
        content.update(path.read_bytes())
    return content.hexdigest()[:16]


def compile_program(
    name: str, sources: Sequence[Path], flags: Sequence[str] = (), libraries: Sequence[str] = ()
) -> Path:
    """The path of the program made of `sources`; compiled only where the cache has none."""
    program = CACHE / f"{name}-{fingerprint(sources, (*flags, *libraries))}"
    if not program.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = program.with_suffix(f".{os.getpid()}")
        command = [compiler() or "cc", *WARNINGS, *flags, *map(str, sources), "-o", str(partial), *libraries]
        subprocess.run(command, check=True)
        partial.rename(program)
    return program
