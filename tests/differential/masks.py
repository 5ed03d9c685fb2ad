"""The listed differences of register and flag masks (masks.txt)."""

import functools
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tests.oracle import processor

LISTED = Path(__file__).with_name("masks.txt")


@dataclass(frozen=True)
class Entry:
    """One line: differences of these mnemonics from this judge are explained."""

    judge: str
    difference: str
    mnemonics: tuple[str, ...]
    reason: str

    def covers(self, judge: str, difference: str, mnemonic: str) -> bool:
        """Whether the line explains a difference."""
        return (
            judge == self.judge
            and fnmatchcase(difference, self.difference)
            and any(fnmatchcase(mnemonic, pattern) for pattern in self.mnemonics)
        )


@functools.cache
def entries() -> tuple[Entry, ...]:
    """The lines of masks.txt that hold on the vendor at hand."""
    found = []
    for line in LISTED.read_text().splitlines():
        if line and not line.startswith("#"):
            judge, difference, mnemonics, reason = (part.strip() for part in line.split("|"))
            name, _, vendor = judge.partition(" on ")
            if vendor in ("", processor.vendor()):
                found.append(Entry(name, difference, tuple(mnemonics.split()), reason))
    return tuple(found)


def explanation(judge: str, difference: str, mnemonic: str) -> Entry | None:
    """The line that explains a difference, if there is one."""
    return next((entry for entry in entries() if entry.covers(judge, difference, mnemonic)), None)
