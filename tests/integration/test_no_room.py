"""A target that can map nothing more: no slot can be had, and every probe still counts exactly."""

import resource
from pathlib import Path

import pytest

import uprobes
from tests.process import executable_text


def limit_memory(pid: int) -> None:
    """Leave a process no address space beyond what it has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    size = pages * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_AS, (size, size))


@pytest.mark.parametrize("mode", ["auto", "trap", "step"])
def test_counts_are_those_of_a_target_with_room(victim, mode):
    full, roomy = victim("calls"), victim("calls")
    limit_memory(full.pid)
    before = executable_text(full.pid)
    maps = Path(f"/proc/{full.pid}/maps").read_text()
    with uprobes.attach(full.pid) as target, uprobes.attach(roomy.pid) as witness:
        probe = target.probe(target.instructions("calls:*"), mode=mode)
        others = witness.probe(witness.instructions("calls:*"))
        assert Path(f"/proc/{full.pid}/maps").read_text() == maps
        for each in (full, roomy):
            each.order(3)
            each.wait_line("rounds")
        refused = {site.refusal for site in probe.sites if site.refusal}
        # hlt at the end of _start; and what needs a slot, where stopping everybody for each hit was not allowed
        assert refused <= {uprobes.Refusal.ALWAYS_FAULTS} | ({uprobes.Refusal.NO_ROOM} if mode == "trap" else set())
        # main goes on to read the next order in its own time
        pairs = [
            (mine, other)
            for mine, other in zip(probe.sites, others.sites, strict=True)
            if not mine.refusal and mine.symbol != "main"
        ]
        counts = [(mine.name, mine.hits) for mine, _ in pairs]
        assert counts == [(other.name, other.hits) for _, other in pairs]
        assert sum(hits for _, hits in counts) > 100
    assert executable_text(full.pid) == before
    assert full.finish() == roomy.finish()


def test_threads_that_run_on_are_not_missed(victim):
    """While one thread runs the instruction in place the others stand still."""
    spin = victim("spin")
    limit_memory(spin.pid)
    with uprobes.attach(spin.pid) as target:
        probe = target.probe("spin:work")
        first = probe.hits
        target.run(timeout=0.5)
        counted = probe.hits
    assert counted > first
    assert spin.finish()["work"] >= counted
