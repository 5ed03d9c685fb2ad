"""Reads the golden instructions of tests/data (the form is in tests/data/README.md)."""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).parent / "data"
EFFECT = re.compile(r"ip=(?P<ip>[0-9a-f]+)|sp=(?P<sp>[0-9a-f]+)|sp(?P<delta>[+-]\d+)")


@dataclass(frozen=True)
class Case:
    """One golden instruction."""

    place: str  # file and line
    bits: int
    code: bytes
    length: int | None  # None: no instruction
    outcome: str
    ip: int | None
    stack_pointer: int | None
    stack_delta: int | None
    features: tuple[str, ...]
    whom: str | None
    why: str

    @property
    def vendors(self) -> tuple[str, ...]:
        """The vendors whose decoding this is."""
        return {"amd": ("amd",), "intel": ("intel",), "zen4": ("amd",)}.get(self.whom or "", ("amd", "intel"))


def parse(place: str, line: str) -> Case:
    """The case of one line."""
    instruction, outcome, why = (part.strip() for part in line.split(";", 2))
    bits, text = instruction.split()
    head, bar, _ = text.partition("|")
    words = outcome.split()
    whom = words.pop() if len(words) > 1 and words[-2] == "on" else None
    if whom:
        words.pop()
    features: tuple[str, ...] = ()
    if "if" in words:
        features = tuple(words[words.index("if") + 1 :])
        words = words[: words.index("if")]
    effects: dict[str, int] = {}
    for word in words[1:]:
        match = EFFECT.fullmatch(word)
        if match is None:
            raise ValueError(f"{place}: {word!r} is no effect")
        (name, value) = next((name, value) for name, value in match.groupdict().items() if value)
        effects[name] = int(value, 10 if name == "delta" else 16)
    return Case(
        place=place,
        bits=int(bits),
        code=bytes.fromhex(text.replace("|", "")),
        length=len(head) // 2 if bar else None,
        outcome=words[0],
        ip=effects.get("ip"),
        stack_pointer=effects.get("sp"),
        stack_delta=effects.get("delta"),
        features=features,
        whom=whom,
        why=why,
    )


@functools.cache
def cases() -> tuple[Case, ...]:
    """All golden instructions, in the order of the files."""
    found = []
    for path in sorted(DATA.glob("*.txt")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line and not line.startswith("#"):
                found.append(parse(f"{path.name}:{number}", line))
    return tuple(found)
