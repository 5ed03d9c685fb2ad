"""Compares what we say of byte sequences with what the processor does, and sorts the differences."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tests.differential import absent, iced, ours, zydis
from tests.differential.spaces import Codes
from tests.oracle import JUDGE_IN, Hint, Oracle, Outcome, processor

WRONG_LENGTH = "wrong length"
REFUSED = "refused though it executes"
ACCEPTED = "accepted though #UD"
DOUBTED = "refused though two decoders take it, of an extension that is absent"
NO_VERDICT = "no verdict"

# Never run whole: only shown to be at least as long as claimed.
#   a call of the hypervisor could mean anything to it
#   waiting for a store that never comes would stop the oracle
DANGEROUS = frozenset({"vmcall", "vmmcall", "vmgexit", "mwait", "mwaitx", "umwait", "tpause"})


@dataclass(frozen=True)
class Difference:
    """One byte sequence on which we and the processor differ."""

    kind: str
    space: str
    bits: int
    code: bytes  # what we take for the instruction, or all bytes
    mnemonic: str  # empty where we refuse it
    length: int  # ours; 0 where we refuse it
    true_length: int
    outcome: Outcome

    def __str__(self) -> str:
        """The case in the form of tests/data."""
        ends = self.outcome != Outcome.UD and self.true_length
        text = (
            f"{self.code[: self.true_length].hex()}|{self.code[self.true_length :].hex()}"
            if ends
            else self.code.hex()
        )
        said = f"we say {self.length} ({self.mnemonic})" if self.length else "we refuse it"
        return f"{self.bits} {text} ; {self.outcome.label} ; {self.kind}: {said} [{self.space}]"


@dataclass
class Tally:
    """What has been judged so far."""

    sequences: Counter[str] = field(default_factory=Counter)
    executed: int = 0
    excused: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many sequences were judged."""
        return self.sequences.total()

    def add(self, difference: Difference, keep: int) -> None:
        """Count a difference; keep it where fewer than `keep` of its kind, mode and mnemonic are kept."""
        key = f"{difference.kind} {difference.bits} {difference.mnemonic}"
        self.kinds[key] += 1
        if self.kinds[key] <= keep:
            self.differences.append(difference)


def options() -> int:
    """Decoder options for the processor at hand."""
    extension = ours.extension()
    return int(extension.INTEL if processor.vendor() == "intel" else extension.AMD)


class Names:
    """Mnemonics of decoded instructions, asked for once for each that can differ."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, ...], str] = {}

    def of(self, insn: np.void) -> str:
        """The mnemonic of a decoded instruction, in lower case."""
        key = tuple(int(insn[name]) for name in ("name", "operand_size", "address_size", "rex", "bits"))
        if key not in self.known:
            self.known[key] = ours.mnemonic(insn).lower()
        return self.known[key]


@dataclass(frozen=True)
class Batch:
    """Sequences of one space and mode, what we say of them, and what the processor does."""

    space: str
    bits: int
    codes: Codes
    decoded: ours.Decoded
    truth: npt.NDArray[np.void]
    names: Names

    def difference(self, kind: str, row: int) -> Difference:
        """The difference in one row."""
        truth, length = self.truth[row], int(self.decoded.lengths[row])
        return Difference(
            kind=kind,
            space=self.space,
            bits=self.bits,
            code=self.codes[row].tobytes()[: max(length, int(truth["length"])) or 16],
            mnemonic=self.names.of(self.decoded.insn[row]) if length else "",
            length=length,
            true_length=int(truth["length"]),
            outcome=Outcome(truth["outcome"]),
        )


def judge(
    oracle: Oracle, space: str, bits: int, codes: Codes, tally: Tally, names: Names, keep: int = 20
) -> None:
    """Judge one batch, all of one mode, into `tally`."""
    decoded = ours.decode(codes, modes(codes, bits), options())
    records = np.zeros(len(codes), JUDGE_IN)
    records["code"], records["bits"], records["claim"] = codes, bits, decoded.lengths
    goes_on = (decoded.status == 0) & (decoded.insn["flow"] == ours.FLOW_NEXT)
    records["hint"] = np.where(goes_on, Hint.NEXT, 0)
    records["hint"][dangerous(decoded, names)] = Hint.LOWER_BOUND
    batch = Batch(space, bits, codes, decoded, oracle.judge(records), names)
    tally.sequences[space] += len(codes)
    tally.executed += int((batch.truth["outcome"] == Outcome.EXECUTED).sum())
    for kind, rows in differing(decoded, batch.truth):
        for row in rows:
            tally.add(batch.difference(kind, row), keep)
    excuse(batch, tally, keep)
    if zydis.available():
        doubt(batch, tally, keep)


def modes(codes: Codes, bits: int) -> npt.NDArray[np.uint8]:
    """The mode of each row."""
    return np.full(len(codes), bits, np.uint8)


def dangerous(decoded: ours.Decoded, names: Names) -> npt.NDArray[np.int64]:
    """Rows that must not be run whole."""
    accepted = np.flatnonzero(decoded.status == 0)
    _, first, inverse = np.unique(decoded.insn["name"][accepted], return_index=True, return_inverse=True)
    unsafe = np.array([names.of(decoded.insn[accepted[place]]) in DANGEROUS for place in first], bool)
    return accepted[unsafe[inverse]] if len(accepted) else accepted


def differing(
    decoded: ours.Decoded, truth: npt.NDArray[np.void]
) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    """Rows with a wrong length, a wrong refusal or no answer; not those accepted though #UD."""
    claims, outcome, length = decoded.lengths, truth["outcome"], truth["length"]
    judged = outcome < Outcome.NOT_RUN
    # Past 15 bytes the processor raises #GP once it has fetched 15, before it looks at anything else.
    too_long = (outcome == Outcome.GP) & (length == 15)
    measured = (judged & (outcome != Outcome.UD)) | (outcome == Outcome.NOT_RUN)
    yield WRONG_LENGTH, np.flatnonzero(measured & (claims > 0) & (length != claims))
    yield REFUSED, np.flatnonzero(judged & (claims == 0) & (outcome != Outcome.UD) & ~too_long)
    yield NO_VERDICT, np.flatnonzero(~judged & (outcome != Outcome.NOT_RUN))


def excuse(batch: Batch, tally: Tally, keep: int) -> None:
    """Sort what we accept though the processor raises #UD: excused, or a difference."""
    rows = np.flatnonzero((batch.decoded.status == 0) & (batch.truth["outcome"] == Outcome.UD))
    codes, decoded = batch.codes[rows], batch.decoded.rows(rows)
    theirs = zydis.lengths(codes, modes(codes, batch.bits)) if zydis.available() else decoded.lengths
    for row, code, insn, length in zip(rows, codes, decoded.insn, theirs, strict=True):
        reason = absent.reason(batch.names.of(insn), insn, code.tobytes()[:15], int(length))
        if reason:
            tally.excused[reason] += 1
        else:
            tally.add(batch.difference(ACCEPTED, int(row)), keep)


def doubt(batch: Batch, tally: Tally, keep: int) -> None:
    """Find what we refuse and the processor cannot judge, since it lacks the extension."""
    rows = np.flatnonzero((batch.decoded.status != 0) & (batch.truth["outcome"] == Outcome.UD))
    taken = zydis.lengths(batch.codes[rows], modes(batch.codes[rows], batch.bits))
    for row, length in zip(rows[taken > 0], taken[taken > 0], strict=True):
        instruction = iced.decode(batch.codes[row].tobytes()[:15], batch.bits)
        if instruction.is_invalid or instruction.len != length or not absent.absent_features(instruction):
            continue
        name = iced.mnemonic(instruction)
        if f"-{name}" in absent.listed():
            tally.excused[f"{name} refused: {absent.listed()[f'-{name}']}"] += 1
        else:
            tally.add(batch.difference(DOUBTED, int(row)), keep)
