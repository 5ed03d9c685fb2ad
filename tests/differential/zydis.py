"""Zydis, through a small C filter compiled at test time. Debian: libzydis-dev."""

import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.oracle import processor
from tests.oracle.build import compile_program

SOURCE = Path(__file__).with_name("zydis.c")


def available() -> bool:
    """Whether the library's header is there to compile against."""
    return any(Path(folder, "Zydis/Zydis.h").exists() for folder in ("/usr/include", "/usr/local/include"))


def lengths(codes: npt.NDArray[np.uint8], bits: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The length of the instruction at the start of each 16-byte row, as at hand; 0 where Zydis refuses it."""
    program = compile_program("zydis", [SOURCE], ["-O2"], ["-lZydis", "-lZycore"])
    records = np.hstack([codes, bits.reshape(-1, 1)])
    answer = subprocess.run([program, processor.vendor()], input=records.tobytes(), stdout=subprocess.PIPE, check=True)
    return np.frombuffer(answer.stdout, np.uint8)
