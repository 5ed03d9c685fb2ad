"""How the instructions of a file can be probed: the shares of one stop, of two, and of refusals."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from uprobe_core.abi import PLAN_ONE_STOP
from uprobe_core.x86.relocate import kind_name
from uprobe_core.x86.survey import survey
from uprobes.refusal import Refusal
from uprobes.symbols.elf import ElfFile
from uprobes.symbols.frames import FrameTable

if TYPE_CHECKING:
    from collections.abc import Iterable


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

    @property
    def lines(self) -> list[str]:
        """Counts and shares, the largest first."""
        total = max(self.instructions, 1)
        rows: Counter[str] = Counter()
        for kind, count in self.kinds.items():
            rows[kind_name(kind, "a register")] += count
        for refusal, count in self.refused.items():
            rows[f"refused: {refusal.sentence}"] += count
        return [f"{count:9}  {100 * count / total:8.4f} %  {text}" for text, count in rows.most_common()]


def survey_code(pieces: Iterable[tuple[int, bytes]], *, mode: str = "auto", reach: str = "near") -> Survey:
    """Of pieces of code, each an address and the bytes from there on; a piece begins with an instruction."""
    found = Survey()
    for vaddr, code in pieces:
        kinds, refusals = survey(code, vaddr, mode=mode, reach=reach)
        found.kinds.update(kinds)
        found.refused.update({Refusal(number): count for number, count in refusals.items()})
    return found


def survey_file(path: str, *, mode: str = "auto", reach: str = "near") -> Survey:
    """Of every function of an ELF file that has unwind information: all that compilers make, and most assembly.

    mode: "auto", "trap" or "step". reach: "near" where slots within ±2 GiB can be had, "any" or "none".
    Raises what ElfFile raises.
    """
    with ElfFile(path) as elf:
        extents = sorted(set(FrameTable(elf).extents()))
        return survey_code(((start, elf.read(start, end - start)) for start, end in extents), mode=mode, reach=reach)
