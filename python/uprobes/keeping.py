"""Probes that stay when their tracer leaves: written down for the next one, and taken up by it.

Only what jumps serve can stay. What is written down lies beside the journal, in a directory of the user's own; what is
found in the process is compared with it and with the mapped files, and never believed by itself.
"""

from __future__ import annotations

import contextlib
from array import array
from typing import TYPE_CHECKING, Any, Final

from uprobes.errors import JournalError, TargetGone
from uprobes.journal import find_dead, take
from uprobes.mapping import mapping_at
from uprobes.places import Places
from uprobes.probe import Probe
from uprobes.process import read_image, read_mappings, read_modules
from uprobes.recovery import is_in_place, recover
from uprobes.refusal import Refusal
from uprobes.sites import Insertion

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uprobes.journal import Journal
    from uprobes.sites import SiteTable

VERSION: Final = 1


def describe(table: SiteTable, probes: Iterable[Probe]) -> dict[str, Any]:
    """In the owner thread: all that the next tracer has to know of these probes."""
    described = table.jumps.describe_kept()
    known = {site[0] for site in described["sites"]}
    kept = [(probe, [number for number in probe.numbers if number in known]) for probe in probes]
    described["version"] = VERSION
    described["probes"] = [
        {"spec": probe.spec, "sites": numbers, "counted": probe.counted_at(numbers)}
        for probe, numbers in kept
        if numbers
    ]
    return described


def take_kept(pid: int) -> Journal | None:
    """The journal of probes that were kept in process `pid`; None: there are none. What else a dead tracer has left
    is taken back. AlreadyTraced, JournalError."""
    found = find_dead(pid)
    if found is None:
        return None
    journal = take(found)
    with contextlib.suppress(TargetGone):
        if journal.records.kept and journal.description and is_in_place(journal.records):
            return journal
    journal.close()
    recover(pid)
    return None


def adopt(table: SiteTable, pid: int, journal: Journal) -> list[Probe]:
    """In the owner thread: the kept probes, which count as if they had never been left alone. JournalError."""
    described = journal.description
    if described.get("version") != VERSION:
        raise JournalError(str(journal.path), "it is of another version", hint=f"uprobes recover -p {pid}")
    table.take_journal(journal)
    mappings = read_mappings(pid)
    images: dict[int, memoryview] = {}

    def agrees(vaddr: int, original: bytes) -> bool:
        mapping = mapping_at(mappings, vaddr)
        if mapping is None or not mapping.executable or mapping.shared:
            return False
        if mapping.start not in images:
            images[mapping.start] = read_image(pid, mapping)
        offset = vaddr - mapping.start
        return bytes(images[mapping.start][offset : offset + len(original)]) == original

    numbers = table.jumps.adopt(described, agrees)
    modules = read_modules(pid)
    vaddrs = {number: vaddr for number, vaddr, *_ in described["sites"]}
    probes = []
    for each in described["probes"]:
        wanted = sorted(each["sites"], key=vaddrs.__getitem__)
        places = Places([], (vaddrs[number] for number in wanted), modules)
        refusals = {index: Refusal.CHANGED for index, number in enumerate(wanted) if number not in numbers}
        insertion = Insertion(array("I", (numbers.get(number, 0) for number in wanted)), refusals, {})
        probe = Probe(table, each["spec"], places, insertion)
        table.adopt(probe)
        probe.enable(counted=each["counted"])
        probes.append(probe)
    journal.records.kept = False
    return probes
