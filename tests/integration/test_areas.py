"""Slot areas: ordinary mappings, on demand, in the right place, safe from the target, gone or empty afterwards."""

import mmap
import random
import re
from pathlib import Path

import pytest

import uprobes
from tests.process import executable_text, wait_until

PAGE = mmap.PAGESIZE
TRAPS = b"uprobes traps"
HEADER = b"\x0f\x05\xc3uprobes slots"


def anonymous_code(pid: int) -> dict[int, int]:
    """Start and end of every executable mapping without a name."""
    found = {}
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, rights, _, _, _, *name = line.split(None, 5)
        if "x" in rights and not name:
            start, end = (int(each, 16) for each in span.split("-"))
            found[start] = end
            assert "w" not in rights, line
    return found


def topmost(pid: int) -> int:
    """The end of the topmost mapping in user space."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    return max(int(line.split("-")[1].split()[0], 16) for line in maps.splitlines() if "[vsyscall]" not in line)


def has_mseal() -> bool:
    release = re.match(r"(\d+)\.(\d+)", Path("/proc/sys/kernel/osrelease").read_text())
    return tuple(map(int, release.groups())) >= (6, 10)


def test_nothing_is_mapped_before_the_first_insertion(victim):
    hot = victim("hot")
    with uprobes.attach(hot.pid):
        assert anonymous_code(hot.pid) == {}


def test_the_first_area_lies_a_page_above_the_topmost_mapping(victim):
    hot = victim("hot")
    top = topmost(hot.pid)
    with uprobes.attach(hot.pid) as target:
        target.probe("hot:hot", mode="step")
        assert top + PAGE in anonymous_code(hot.pid)


def test_without_seal_nothing_stays_mapped(victim):
    hot = victim("hot")
    maps = Path(f"/proc/{hot.pid}/maps").read_text()
    with uprobes.attach(hot.pid, seal=False) as target:
        target.probe("hot:hot", mode="step")
        assert anonymous_code(hot.pid)
    assert Path(f"/proc/{hot.pid}/maps").read_text() == maps


@pytest.mark.skipif(not has_mseal(), reason="this kernel has no mseal")
def test_a_sealed_area_is_emptied_and_used_again(victim):
    hot = victim("hot")
    areas = None
    for _ in range(3):
        with uprobes.attach(hot.pid) as target:
            probe = target.probe("hot:hot", mode="step")
            hot.order(10)
            wait_until(lambda probe=probe: probe.hits == 10, "ten hits")
            areas = areas or anonymous_code(hot.pid)
            assert anonymous_code(hot.pid) == areas
        assert anonymous_code(hot.pid) == areas
        with open(f"/proc/{hot.pid}/mem", "rb", buffering=0) as memory:
            for start, end in areas.items():
                memory.seek(start)
                content = memory.read(end - start)
                if TRAPS in content[:PAGE]:
                    # The handler of traps stays, for who kept its address; it knows of no site any more.
                    assert not content[PAGE:].strip(b"\0")
                else:
                    assert content.rstrip(b"\xcc") == HEADER
    assert hot.finish()["hot"] == 30


@pytest.mark.parametrize("mode", ["trap", "step"])
def test_an_area_that_the_target_unmaps_is_made_again(victim, mode):
    """The victim unmaps what lies at the address it is told; the next hit finds no slot."""
    loser = victim("unmaps")
    with uprobes.attach(loser.pid, seal=False) as target:
        probe = target.probe("unmaps:work", mode=mode)
        loser.order(5)
        wait_until(lambda: probe.hits == 5, "five hits")
        for start, end in anonymous_code(loser.pid).items():
            loser.order(-start)
            loser.order(-(end - start))
            assert loser.wait_line("unmapped") == "unmapped 0"
        loser.order(7)
        wait_until(lambda: probe.hits == 12, "seven more")
    assert loser.finish()["work"] == 12


@pytest.mark.skipif(not has_mseal(), reason="this kernel has no mseal")
def test_a_sealed_area_cannot_be_unmapped(victim):
    loser = victim("unmaps")
    with uprobes.attach(loser.pid) as target:
        target.probe("unmaps:work", mode="step")
        for start, end in anonymous_code(loser.pid).items():
            loser.order(-start)
            loser.order(-(end - start))
            assert loser.wait_line("unmapped") == "unmapped -1"


def test_slots_of_removed_probes_are_used_again(victim):
    many = victim("many_functions")
    with uprobes.attach(many.pid, seal=False) as target:
        target.probe("many_functions:function_*", mode="step").remove()
        before = anonymous_code(many.pid)
        for _ in range(5):
            target.probe("many_functions:function_*", mode="trap").remove()
            target.probe("many_functions:function_*", mode="step").remove()
        after = anonymous_code(many.pid)
    assert sum(end - start for start, end in after.items()) <= 3 * sum(end - start for start, end in before.items())


@pytest.mark.parametrize("mode", ["trap", "step"])
def test_scrambled_slots_cost_the_target_a_thread_at_most(victim, mode):
    """Somebody writes garbage over every slot; the tracer goes on, and another target is served as before."""
    scrambled, other = victim("hot"), victim("hot")
    before = executable_text(scrambled.pid)
    with uprobes.attach(scrambled.pid) as target, uprobes.attach(other.pid) as second:
        probe = target.probe(target.instructions("hot:hot"), mode=mode)
        witness = second.probe("hot:hot", mode=mode)
        scrambled.order(10)
        scrambled.wait_line("ns")
        counted = max(site.hits for site in probe.sites)
        garbage = random.Random(7)  # noqa: S311
        with open(f"/proc/{scrambled.pid}/mem", "r+b", buffering=0) as memory:
            for start, end in anonymous_code(scrambled.pid).items():
                memory.seek(start)
                memory.write(garbage.randbytes(end - start))
        scrambled.order(10)
        other.order(10)
        other.wait_line("ns")
        assert witness.hits == 10
        assert counted == 10
        # Its thread went astray, or went on: either way nothing of ours stays behind.
        target.run(timeout=1.0)
        target.detach()
        if scrambled.process.poll() is None:
            assert executable_text(scrambled.pid) == before
    assert other.finish()["hot"] == 10
