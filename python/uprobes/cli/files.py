"""Finding the file that a module's name stands for when there is no process to ask."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from uprobes.errors import ModuleNotFound
from uprobes.symbols.binary import Binary
from uprobes.symbols.near_names import near_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uprobes.spec import ProbeSpec

CONFIGURATION: Final = Path("/etc/ld.so.conf")
# Where the dynamic linker looks without being told, on the distributions that there are.
STANDARD: Final = (
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
)


def open_file(spec: ProbeSpec) -> Binary:
    """The file that a specification's module stands for; the caller closes it."""
    if spec.module is None:
        raise ModuleNotFound(str(spec), fact="no module is named", hint="write MODULE:SYMBOL, or say -p PID")
    return Binary.open(find_file(spec.module))


def find_file(module: str) -> str:
    """The path of a program or library by path, soname (`libc.so.6`), stem (`libc`) or command name (`python3`)."""
    if "/" in module:
        if not os.path.exists(module):
            raise ModuleNotFound(module)
        return module
    names: set[str] = set()
    for directory in _directories(CONFIGURATION):
        listed = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
        names.update(listed)
        # The soname's link comes before the file with the whole version that it leads to.
        matches = [name for name in listed if name == module or name.startswith(f"{module}.so")]
        for name in sorted(matches, key=len):
            path = os.path.join(directory, name)
            if _is_elf(path):
                return os.path.realpath(path)
    program = shutil.which(module)
    if program is not None and _is_elf(program):
        return os.path.realpath(program)
    stems = {name.partition(".so")[0] for name in names if ".so" in name}
    near = near_names(module, stems)
    raise ModuleNotFound(module, near=near, hint=None if near else "give its path")


def _directories(configuration: Path) -> Iterator[str]:
    """The dynamic linker's own, then those of its configuration file and of the files that it includes."""
    yield from STANDARD
    try:
        lines = configuration.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        words = line.partition("#")[0].split()
        if words[:1] == ["include"]:
            for pattern in words[1:]:
                base = configuration.parent
                for path in sorted(base.glob(os.path.relpath(pattern, base) if os.path.isabs(pattern) else pattern)):
                    yield from (each for each in _directories(path) if each not in STANDARD)
        elif words:
            yield words[0]


def _is_elf(path: str) -> bool:
    """A library's name without a version is often that of a linker script."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False
