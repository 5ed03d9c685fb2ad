"""Machine code of real files."""

import glob
from pathlib import Path

from elftools.elf.elffile import ELFFile


def text_of(path: str | Path) -> bytes:
    """The .text section of an ELF file."""
    with open(path, "rb") as stream:
        section = ELFFile(stream).get_section_by_name(".text")
        if section is None:
            raise ValueError(f"{path}: no .text section")
        return bytes(section.data())


def library(pattern: str) -> Path | None:
    """The first installed shared library whose path matches, of those that Debian installs."""
    found = sorted(
        path for folder in ("/usr/lib", "/lib") for path in glob.glob(f"{folder}/x86_64-linux-gnu/{pattern}")
    )
    return Path(found[0]) if found else None
