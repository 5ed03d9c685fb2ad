"""Names that exist and look like one that does not. Bounded: a quarter of a million names take part."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LIMIT = 5
"""Names worth showing."""
COMPARED = 1000
"""Names that get the slow comparison, some 20 µs each."""


def near_names(wanted: str, names: Iterable[str]) -> list[str]:
    """At most `LIMIT` of `names`: parts that a compiler made of `wanted`, other case, slips, longer names."""
    import difflib  # only errors need it

    lower = wanted.lower().strip("_")
    if not lower:
        return []
    parts, same, inside, alike = [], [], [], []
    for name in names:
        if name.startswith(wanted) and name[len(wanted) : len(wanted) + 1] in (".", "@"):
            parts.append(name)  # foo.constprop.0, foo.cold
            continue
        other = name.lower().strip("_")
        if other == lower:
            same.append(name)
        elif lower in other:
            inside.append(name)
        elif abs(len(other) - len(lower)) <= 2 and (other[:2] == lower[:2] or other[-2:] == lower[-2:]):
            alike.append(name)
    found = sorted(parts) + sorted(same)
    backwards = wanted[::-1]

    def equal_ends(name: str) -> int:
        return _equal(wanted, name) + _equal(backwards, name[::-1])

    likeliest = heapq.nlargest(COMPARED, alike, equal_ends)
    found += difflib.get_close_matches(wanted, likeliest, LIMIT, 0.7)
    found += sorted(inside, key=lambda name: (len(name), name))
    return found[:LIMIT]


def _equal(one: str, other: str) -> int:
    """How many characters are equal at the beginning."""
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
