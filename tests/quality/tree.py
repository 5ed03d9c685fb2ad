"""The project's own files, as the quality tests see them."""

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GENERATED = {"uprobe_core/x86/opcode_tables.h"}
SOURCE_SUFFIXES = {".py", ".pyx", ".pxd", ".pyi", ".h", ".c"}


@cache
def files(*folders: str) -> tuple[Path, ...]:
    """Every source and text file below the folders, written by hand."""
    found = []
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            name = path.relative_to(ROOT).as_posix()
            built = path.suffix == ".c" and name.startswith("uprobe_core/")
            if path.is_file() and "__pycache__" not in path.parts and name not in GENERATED and not built:
                found.append(path)
    return tuple(found)


def sources(*folders: str) -> tuple[Path, ...]:
    """The program text among them."""
    return tuple(path for path in files(*folders) if path.suffix in SOURCE_SUFFIXES)


def name(path: Path) -> str:
    """A path as messages show it."""
    return path.relative_to(ROOT).as_posix()


def module(path: Path) -> str:
    """The dotted name that a file is imported by."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[0] == "python":
        parts = parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


_IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import|c?import\s+([\w.]+))", re.MULTILINE)
_TYPING = re.compile(r"^if TYPE_CHECKING:\n(?:(?: .*)?\n)+", re.MULTILINE)


def imports(path: Path) -> set[str]:
    """The absolute names that a Python or Cython file imports or cimports; not those for type checkers alone."""
    text = _TYPING.sub("", path.read_text())
    return {first or second for first, second in _IMPORT.findall(text)}
