"""What an instruction reads and writes, found by running it.

Every instruction runs from several states, and again from each with one thing changed: a register, a flag,
or memory. What differs afterwards was influenced; what we say it does not read must influence nothing but
itself, and what we say it does not write must be as it was.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tests.differential import ours
from tests.differential.spaces import Codes
from tests.oracle import EXECUTE_IN, Oracle, Outcome

FLAGS = {"CF": 0x1, "PF": 0x4, "AF": 0x10, "ZF": 0x40, "SF": 0x80, "DF": 0x400, "OF": 0x800}
ALL_FLAGS = sum(FLAGS.values())
# fmt: off
REGISTERS = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)
# fmt: on
RCX, RSP = 1, 4
MEM_READ, MEM_WRITE, STACK = 1 << 2, 1 << 3, 1 << 4  # enum insn_attr
ARENA_MIDDLE = 0x20008000

Values = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class State:
    """Registers, flags and memory to start from, and another value for each register."""

    gpr: Values
    other: Values
    eflags: int
    fill: int


def states(rng: np.random.Generator, bits: int) -> list[State]:
    """Pointers everywhere; pointers with a small count in rcx; small numbers; random numbers."""

    def pointers() -> Values:
        return (ARENA_MIDDLE + 64 * rng.permutation(np.arange(-16, 16))[:16]).astype(np.uint64)

    def counted() -> Values:
        values = pointers()
        values[RCX] = rng.integers(1, 5)
        return values

    def small() -> Values:
        return rng.integers(0, 9, 16).astype(np.uint64)

    def wide() -> Values:
        return rng.integers(0, 1 << (63 if bits == 64 else 32), 16, np.uint64)

    def mixed() -> Values:
        """Pointers, with numbers in rax, rcx and rdx: what divides and multiplies runs from memory too."""
        values = pointers()
        values[:3] = small()[:3]
        return values

    made = []
    for draw in (pointers, counted, mixed, small, wide):
        values, other = draw(), draw()
        if draw in (small, wide):
            values[RSP] = pointers()[RSP]
            other[RSP] = values[RSP] + np.uint64(64)
        same = values == other
        other[same] += np.uint64(64 if draw is pointers else 1)
        eflags = 0x202 | int(rng.integers(0, 0x1000)) & ALL_FLAGS & ~FLAGS["DF"]
        made.append(State(values, other, eflags, int(rng.integers(1, 100))))
    return made


# Variants of a state, side by side: twice as it is, each register changed, each flag changed, memory changed.
VARIANTS = 2 + len(REGISTERS) + len(FLAGS) + 1
MEMORY_VARIANT = VARIANTS - 1


def variants(state: State) -> npt.NDArray[np.void]:
    """The runs of one state, without code."""
    runs = np.zeros(VARIANTS, EXECUTE_IN)
    runs["gpr"], runs["eflags"], runs["fill"] = state.gpr, state.eflags, state.fill
    for register in range(len(REGISTERS)):
        runs["gpr"][2 + register, register] = state.other[register]
    for place, flag in enumerate(FLAGS.values()):
        runs["eflags"][2 + len(REGISTERS) + place] ^= np.uint64(flag)
    runs["fill"][MEMORY_VARIANT] += 100
    return runs


def unchanged_memory(oracle: Oracle, fills: Sequence[int], bits: int) -> dict[int, int]:
    """The hash of memory that nobody wrote to, by fill."""
    runs = np.zeros(len(fills), EXECUTE_IN)
    runs["code"][:, 0], runs["length"], runs["bits"], runs["fill"] = 0x90, 1, bits, fills
    return dict(zip(fills, oracle.execute(runs)["memory"].tolist(), strict=True))


def examine(
    oracle: Oracle, bits: int, codes: Codes, decoded: ours.Decoded, seed: int
) -> tuple[set[tuple[int, str]], npt.NDArray[np.bool_]]:
    """What the masks of decoded instructions lack, as (row, claim); and which rows executed at all."""
    rng = np.random.default_rng(seed)
    faults: set[tuple[int, str]] = set()
    executed = np.zeros(len(codes), bool)
    for state in states(rng, bits):
        template = variants(state)
        runs = np.tile(template, len(codes))
        runs["code"] = np.repeat(codes, VARIANTS, axis=0)
        runs["length"] = np.repeat(decoded.insn["length"], VARIANTS)
        runs["step"] = np.repeat(decoded.insn["flow"] != ours.FLOW_NEXT, VARIANTS)
        runs["bits"] = bits
        before = runs.reshape(len(codes), VARIANTS)
        after = oracle.execute(runs).reshape(len(codes), VARIANTS)
        clean = unchanged_memory(oracle, [state.fill, state.fill + 100], bits)
        ran = after["outcome"] == Outcome.EXECUTED
        executed |= ran[:, 0]
        faults.update(unclaimed_writes(before, after, decoded, ran, clean))
        faults.update(unclaimed_reads(after, decoded, ran))
    return faults, executed


def unclaimed_writes(
    before: npt.NDArray[np.void],
    after: npt.NDArray[np.void],
    decoded: ours.Decoded,
    ran: npt.NDArray[np.bool_],
    clean: dict[int, int],
) -> Iterator[tuple[int, str]]:
    """Registers, flags and memory that changed and are not in the masks."""
    for register, name in enumerate(REGISTERS):
        changed = ((before["gpr"][:, :, register] != after["gpr"][:, :, register]) & ran).any(axis=1)
        for row in np.flatnonzero(changed & (decoded.effects["writes"] >> register & 1 == 0)):
            yield int(row), f"writes {name}"
    for name, flag in FLAGS.items():
        changed = (((before["eflags"] ^ after["eflags"]) & np.uint64(flag) != 0) & ran).any(axis=1)
        for row in np.flatnonzero(changed & (decoded.effects["flags_written"] & flag == 0)):
            yield int(row), f"writes {name}"
    untouched = np.vectorize(clean.__getitem__, otypes=[np.uint64])(before["fill"][:, (0, MEMORY_VARIANT)])
    changed = ((after["memory"][:, (0, MEMORY_VARIANT)] != untouched) & ran[:, (0, MEMORY_VARIANT)]).any(
        axis=1
    )
    for row in np.flatnonzero(changed & (decoded.insn["attrs"] & (MEM_WRITE | STACK) == 0)):
        yield int(row), "writes memory"


def unclaimed_reads(
    after: npt.NDArray[np.void], decoded: ours.Decoded, ran: npt.NDArray[np.bool_]
) -> Iterator[tuple[int, str]]:
    """Registers, flags and memory that influenced an outcome and are not in the masks."""
    steady = ran[:, 0] & ran[:, 1] & (after[:, 0] == after[:, 1])  # else it is not a function of the state
    defined = (ALL_FLAGS & ~decoded.effects["flags_undefined"]).astype(np.uint64)
    for register, name in enumerate(REGISTERS):
        variant = 2 + register
        differs = outcome_differs(after, variant, defined)
        for other in range(len(REGISTERS)):
            # A register keeps its own old value where it is not, not wholly or not always written.
            counts = (
                np.ones(len(after), bool)
                if other != register
                else decoded.effects["kills"] >> register & 1 == 1
            )
            differs |= (after["gpr"][:, variant, other] != after["gpr"][:, 0, other]) & counts
        for row in np.flatnonzero(steady & differs & (decoded.effects["reads"] >> register & 1 == 0)):
            yield int(row), f"reads {name}"
    for place, (name, flag) in enumerate(FLAGS.items()):
        variant = 2 + len(REGISTERS) + place
        differs = outcome_differs(after, variant, defined & np.uint64(~flag & ALL_FLAGS))
        differs |= (after["gpr"][:, variant] != after["gpr"][:, 0]).any(axis=1)
        for row in np.flatnonzero(steady & differs & (decoded.effects["flags_read"] & flag == 0)):
            yield int(row), f"reads {name}"
    gpr_differs = (after["gpr"][:, MEMORY_VARIANT] != after["gpr"][:, 0]).any(axis=1)
    differs = gpr_differs | outcome_differs(after, MEMORY_VARIANT, defined, but_memory=True)
    for row in np.flatnonzero(steady & differs & (decoded.insn["attrs"] & (MEM_READ | STACK) == 0)):
        yield int(row), "reads memory"


def outcome_differs(
    after: npt.NDArray[np.void], variant: int, flags: npt.NDArray[np.uint64], but_memory: bool = False
) -> npt.NDArray[np.bool_]:
    """Whether anything but the general registers came out otherwise than in the first run."""
    differs = (after["eflags"][:, variant] ^ after["eflags"][:, 0]) & flags != 0
    for name in ("outcome", "moved", "vector") + (() if but_memory else ("memory",)):
        differs |= after[name][:, variant] != after[name][:, 0]
    return np.asarray(differs)
