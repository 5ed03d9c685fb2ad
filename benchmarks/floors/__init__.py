"""The bare cost of the stops that a probe needs, by small C programs, here and now."""

import subprocess
import tempfile
from functools import cache
from pathlib import Path

SOURCES = Path(__file__).parent


@cache
def _build(name: str) -> Path:
    program = Path(tempfile.mkdtemp(prefix="uprobes-floors-")) / name
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", str(SOURCES / f"{name}.c"), "-o", str(program)]
    subprocess.run(command, check=True)
    return program


def measure(name: str, cpu: int, stops: int = 2000, rounds: int = 1) -> list[float]:
    """Nanoseconds a stop, one figure a round, with tracer and target on processor `cpu`.

    `name` is stop (int3, PTRACE_CONT, wait) or step (PTRACE_SINGLESTEP, wait).
    """
    command = [str(_build(name)), *map(str, (stops, rounds, cpu, cpu))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(line) for line in done.stdout.splitlines()]
