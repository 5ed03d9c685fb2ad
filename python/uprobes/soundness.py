"""Which places of a process can bear a probe, before their instructions are planned."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from uprobes.boundaries import find_boundaries
from uprobes.process import Mapping, mapping_at, read_image, read_mappings
from uprobes.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from uprobes.places import Places


class Stretch(NamedTuple):
    """Places of one mapping, by index, that begin an instruction. `image` is what the mapping's file has."""

    mapping: Mapping
    image: memoryview
    indices: Sequence[int]


def sound_places(pid: int, places: Places, refusals: dict[int, Refusal]) -> Iterator[Stretch]:
    """The places that can bear a probe, mapping by mapping; why the others cannot goes to `refusals`.

    What is in memory is not looked at: whoever patches compares it with the image. TargetGone, NotPermitted.
    """
    mappings = read_mappings(pid)
    first = 0
    while first < len(places):
        mapping = mapping_at(mappings, places.vaddrs[first])
        refusal = _mapping_refusal(mapping)
        last = first + 1 if mapping is None else bisect_left(places.vaddrs, mapping.end)
        if mapping is None or refusal:
            refusals.update((index, refusal or Refusal.NOT_EXECUTABLE) for index in range(first, last))
        else:
            image = read_image(pid, mapping)
            sound = find_boundaries(places, first, last, mapping, image, refusals)
            if places.refusals:
                sound = [index for index in sound if index not in places.refusals]
            yield Stretch(mapping, image, sound)
        first = last
    refusals.update(places.refusals)


def _mapping_refusal(mapping: Mapping | None) -> Refusal | None:
    """Why nothing in a mapping can be probed."""
    if mapping is None or not mapping.executable:
        return Refusal.NOT_EXECUTABLE
    # A write through a shared mapping would change the file on disk.
    return Refusal.SHARED if mapping.shared else None
