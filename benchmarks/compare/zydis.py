"""Zydis through its C interface, in this process. Debian: libzydis-dev."""

import ctypes
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).with_name("zydis.c")


def available() -> bool:
    """Whether its header is there to compile against."""
    return Path("/usr/include/Zydis/Zydis.h").exists()


@cache
def load_sweep() -> Callable[[bytes], int]:
    """A function that decodes a buffer with all operands and returns the number of instructions."""
    built = ROOT / "build" / "benchmarks" / "zydis.so"
    built.parent.mkdir(parents=True, exist_ok=True)
    command = ["cc", "-O2", "-shared", "-fPIC", str(SOURCE), "-o", str(built), "-lZydis", "-lZycore"]
    subprocess.run(command, check=True)
    sweep = ctypes.CDLL(str(built)).zydis_sweep
    sweep.argtypes, sweep.restype = [ctypes.c_char_p, ctypes.c_size_t], ctypes.c_size_t
    return lambda code: int(sweep(code, len(code)))
