"""The share of instructions that need one stop, over what this machine runs."""

import ctypes.util
import os
import sys

import pytest

from uprobes.survey import Survey, survey_file

NAMES = ("c", "crypto", "stdc++", "sqlite3")
ENOUGH = 100_000


def code_files():
    """Paths of this Python, the C library, and whatever else of the usual large libraries is installed."""
    for name in NAMES:
        soname = ctypes.util.find_library(name)
        if soname:
            ctypes.CDLL(soname)
    with open("/proc/self/maps") as maps:
        mapped = {line.split()[-1] for line in maps if " r-xp " in line and "/" in line}
    wanted = tuple(f"lib{name}.so" for name in (*NAMES, "python3"))
    return sorted({os.path.realpath(sys.executable)} | {p for p in mapped if os.path.basename(p).startswith(wanted)})


@pytest.mark.parametrize(("reach", "share", "refused"), [("near", 0.999, 0.0005), ("any", 0.98, 0.0005)])
def test_nearly_every_instruction_needs_one_stop(reach, share, refused):
    total = Survey()
    for path in code_files():
        found = survey_file(path, reach=reach)
        total.kinds += found.kinds
        total.refused += found.refused
    assert total.instructions > ENOUGH
    assert total.one_stop >= share * total.instructions, "\n".join(total.lines)
    assert total.refused.total() <= refused * total.instructions, "\n".join(total.lines)
