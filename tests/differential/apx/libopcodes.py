"""libopcodes of binutils, as GDB carries it. PyPI: gdb-for-pwndbg, a GDB new enough for APX."""

import functools
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

FIRST = 16  # major version of the first GDB that knows all of APX
PREFIX = re.compile(r"(lock|repz|repnz|data16|addr32|[c-gs]s|rex2?(\.\w+)?|xacquire|xrelease|bnd)$")
ANSWER = re.compile(r"\s*(?:=>)?\s*0x([0-9a-f]+)[^:]*:\s*(.*)")


@functools.cache
def debugger() -> str | None:
    """The GDB to ask: this environment's own or the system's, if it is new enough."""
    for program in (str(Path(sys.prefix, "bin", "gdb")), shutil.which("gdb")):
        if program and Path(program).exists():
            said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
            version = re.search(r"GNU gdb.* (\d+)\.\d+", said)
            if version and int(version[1]) >= FIRST:
                return program
    return None


def available() -> bool:
    """Whether there is a GDB that knows APX."""
    return debugger() is not None


def lengths(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The length of the instruction at the start of each 16-byte row; 0 where libopcodes refuses it."""
    program = debugger()
    assert program is not None
    with tempfile.TemporaryDirectory() as folder:
        raw, source, built, script = (Path(folder, name) for name in ("raw", "code.s", "code.o", "commands"))
        raw.write_bytes(codes.tobytes() + bytes(16))
        source.write_text(f'.text\n.incbin "{raw}"\n')
        # Two instructions: the second tells where the first ends.
        asked = "".join(f"x/2i {16 * place}\n" for place in range(len(codes)))
        script.write_text(f"set architecture i386:x86-64\n{asked}")
        subprocess.run(["cc", "-c", source, "-o", built], check=True)
        command = [program, "-nx", "-batch", built, "-x", script]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    answers = [match for match in map(ANSWER.match, done.stdout.splitlines()) if match]
    pairs = zip(answers[::2], answers[1::2], strict=True)
    return np.array([0 if refused(one[2]) else int(end[1], 16) - int(one[1], 16) for one, end in pairs], np.uint8)


def refused(text: str) -> bool:
    """Whether libopcodes says that it is none: (bad), {bad-nf}, or a prefix shown alone."""
    return "(bad" in text or "{bad" in text or PREFIX.match(text.strip()) is not None
