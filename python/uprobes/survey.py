"""How the instructions of a file can be probed: the shares of one stop, of two, and of refusals."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from uprobe_core.abi import PLAN_ONE_STOP
from uprobe_core.x86.relocate import kind_name
from uprobe_core.x86.survey import survey
from uprobes.refusal import Refusal
from uprobes.symbols.binary import Binary
from uprobes.symbols.frames import FrameTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from uprobes.symbols.forbidden import Forbidden


@dataclass(frozen=True, slots=True)
class Row:
    """Instructions that share an answer: how many, the stops of a hit (0: refused), and the plan or the refusal."""

    count: int
    stops: int
    text: str


@dataclass(slots=True)
class Survey:
    """Instructions counted by plan byte and by refusal."""

    kinds: Counter[int] = field(default_factory=Counter)
    refused: Counter[Refusal] = field(default_factory=Counter)

    @property
    def instructions(self) -> int:
        """All of them."""
        return self.kinds.total() + self.refused.total()

    @property
    def one_stop(self) -> int:
        """Those whose hit costs one stop."""
        return sum(count for kind, count in self.kinds.items() if kind & PLAN_ONE_STOP)

    def share(self, count: int) -> float:
        """What part of all instructions `count` is, from 0 to 1."""
        return count / max(self.instructions, 1)

    @property
    def rows(self) -> list[Row]:
        """Every plan and every refusal that there is, the most frequent first."""
        counts: Counter[tuple[int, str]] = Counter()
        for kind, count in self.kinds.items():
            counts[1 if kind & PLAN_ONE_STOP else 2, kind_name(kind, "a register")] += count
        for refusal, count in self.refused.items():
            counts[0, f"refused: {refusal.sentence}"] += count
        return [Row(count, stops, text) for (stops, text), count in counts.most_common()]

    @property
    def lines(self) -> list[str]:
        """The rows in words."""
        return [f"{row.count:9}  {100 * self.share(row.count):8.4f} %  {row.text}" for row in self.rows]

    def add(self, vaddr: int, code: bytes, mode: str, reach: str, refusal: Refusal | None) -> None:
        """Count the instructions of `code`, which begins with one at `vaddr`. refusal: what holds for all of them."""
        kinds, refusals = survey(code, vaddr, mode=mode, reach=reach)
        if refusal is None:
            self.kinds.update(kinds)
            self.refused.update({Refusal(number): count for number, count in refusals.items()})
        else:
            self.refused[refusal] += sum(kinds.values()) + sum(refusals.values())


def survey_file(path: str, *, mode: str = "auto", reach: str = "near") -> Survey:
    """Of every function of an ELF file that has unwind information: all that compilers make, and most assembly.

    mode: "auto", "trap" or "step". reach: "near" where slots within ±2 GiB can be had, "any" or "none".
    Raises what ElfFile raises.
    """
    found = Survey()
    with Binary.open(path) as binary:
        extents = sorted(set(FrameTable(binary.elf).extents()))
        for start, end, refusal in _split(extents, binary.forbidden):
            found.add(start, binary.elf.read(start, end - start), mode, reach, refusal)
    return found


def _split(
    extents: Iterable[tuple[int, int]], forbidden: tuple[Forbidden, ...]
) -> Iterator[tuple[int, int, Refusal | None]]:
    """The extents, cut where the file begins or ends to forbid probes."""
    for start, end in extents:
        at = start
        for each in sorted(forbidden, key=lambda each: each.start):
            if at < each.end and each.start < end:
                first, last = max(at, each.start), min(end, each.end)
                if at < first:
                    yield at, first, None
                yield first, last, each.refusal
                at = last
        if at < end:
            yield at, end, None
