"""Asks the processor: how long is this instruction, is it one, what does it do to the registers?

The work is done by a C program (main.c and its neighbours), compiled at first use. Records go in and come
out as numpy structured arrays whose dtypes mirror layout.h.
"""

import enum
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from tests.oracle.build import compile_program

HERE = Path(__file__).parent
SOURCES = tuple(HERE / name for name in ("main.c", "sandbox.c", "tracer.c", "machine.c", "vector.c"))
# No stack protector: its canary is read through FS, which a judged instruction may have moved.
FLAGS = ("-O2", "-fPIE", "-pie", "-fno-stack-protector", "-Wl,-z,now")
BATCH_MAX = 65536

CODE_BYTES = 16
JUDGE_IN = np.dtype(
    [("code", "u1", CODE_BYTES), ("claim", "u1"), ("bits", "u1"), ("hint", "u1"), ("pad", "u1")]
)
JUDGE_OUT = np.dtype([("length", "u1"), ("outcome", "u1"), ("runs", "u1"), ("pad", "u1"), ("moved", "<i4")])
EXECUTE_IN = np.dtype(
    [
        ("code", "u1", CODE_BYTES),
        ("length", "u1"),
        ("bits", "u1"),
        ("fill", "u1"),
        ("step", "u1"),
        ("pad", "u1", 4),
        ("eflags", "<u8"),
        ("gpr", "<u8", 16),
    ]
)
EXECUTE_OUT = np.dtype(
    [
        ("gpr", "<u8", 16),
        ("eflags", "<u8"),
        ("moved", "<i8"),
        ("memory", "<u8"),
        ("vector", "<u8"),
        ("outcome", "u1"),
        ("stop", "u1"),
        ("pad", "u1", 6),
    ]
)

Records = npt.NDArray[np.void]


class Hint(enum.IntFlag):
    """What the oracle may take for granted, or must not do, with one record."""

    NEXT = 1  # control goes to the next instruction, so no trap flag is needed
    EXACT = 2  # count the bytes fetched even where the outcome is #UD
    LOWER_BOUND = 4  # never run it whole: only show that claim - 1 bytes are too few
    PTRACE = 8  # use the tracer, not the sandbox


class Outcome(enum.IntEnum):
    """What became of an instruction: an exception vector, or what the oracle has to say itself."""

    DE = 0
    EXECUTED = 1
    BREAKPOINT = 3
    OVERFLOW = 4
    BOUND = 5
    UD = 6
    NP = 11
    SS = 12
    GP = 13
    PF = 14
    MF = 16
    AC = 17
    XM = 19
    NOT_RUN = 32
    TOO_FEW = 33
    HUNG = 34
    DIED = 35

    @property
    def label(self) -> str:
        """As golden data writes it."""
        if self is Outcome.EXECUTED:
            return "executes"
        return {Outcome.BREAKPOINT: "#BP", Outcome.OVERFLOW: "#OF", Outcome.BOUND: "#BR"}.get(
            self, f"#{self.name}"
        )


class Oracle:
    """A running oracle; a context manager. Not thread-safe.

    patience: seconds without an answer after which an instruction is taken to hang.
    """

    def __init__(self, patience: float = 10) -> None:
        program = compile_program("oracle", SOURCES, FLAGS)
        command = [program, str(round(patience * 1000))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the program and all its children."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def judge(self, records: Records) -> Records:
        """The true length and outcome of each JUDGE_IN record, as JUDGE_OUT records."""
        return self._ask("J", records, JUDGE_IN, JUDGE_OUT)

    def execute(self, records: Records) -> Records:
        """Registers, memory and outcome after one run of each EXECUTE_IN record, as EXECUTE_OUT records."""
        return self._ask("X", records, EXECUTE_IN, EXECUTE_OUT)

    def _ask(
        self, kind: str, records: Records, asked: np.dtype[np.void], answered: np.dtype[np.void]
    ) -> Records:
        if records.dtype != asked:
            raise TypeError(f"records of {records.dtype}: expected {asked}")
        return np.concatenate(
            [
                self._ask_batch(kind, records[first : first + BATCH_MAX], answered)
                for first in range(0, len(records), BATCH_MAX)
            ]
            or [np.zeros(0, answered)]
        )

    def _ask_batch(self, kind: str, records: Records, answered: np.dtype[np.void]) -> Records:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(np.array([ord(kind), len(records)], "<u4").tobytes() + records.tobytes())
        self.process.stdin.flush()
        answer = self.process.stdout.read(len(records) * answered.itemsize)
        if len(answer) != len(records) * answered.itemsize:
            raise RuntimeError(
                f"the oracle ended with status {self.process.wait()} in a batch of {len(records)}"
            )
        return np.frombuffer(answer, answered)


def pack(code: bytes) -> npt.NDArray[np.uint8]:
    """The bytes of one instruction as a record's `code`, padded with zeros."""
    return np.frombuffer(code[:CODE_BYTES].ljust(CODE_BYTES, b"\0"), np.uint8)


# The general registers that judge() starts from, numbered as encoded; machine.h has the reasons.
START_GPR = tuple(
    0x20000000 + offset
    for offset in (
        *(0x8000, 0x7E40, 0x7D80, 0x7CC0, 0x8100, 0x8200, 0x8300, 0x8400),
        *(0x8500, 0x8600, 0x7B00, 0x7A00, 0x7900, 0x7800, 0x8700, 0x8740),
    )
)
