"""Probes that stay when the tracer leaves: they count on, and whoever comes next finds them."""

import os
import shutil
import subprocess
import sys

import uprobes
from tests.process import ENVIRONMENT, executable_text, tracer_pid, wait_until
from uprobes import Refusal

LEAVE = """
import sys, uprobes
target = uprobes.attach(int(sys.argv[1]))
target.probe(sys.argv[2])
target.detach(keep=True)
"""


def test_counts_go_on_with_nobody_attached(victim):
    hot = victim("hot")
    before = executable_text(hot.pid)
    target = uprobes.attach(hot.pid)
    first = target.probe("hot:hot")
    hot.order(1000)
    hot.wait_line("ns")
    target.detach(keep=True)
    assert tracer_pid(hot.pid) == 0
    assert executable_text(hot.pid) != before
    hot.order(500)
    hot.wait_line("ns")
    assert first.hits == 1500, "the board is still ours"
    with uprobes.attach(hot.pid) as target:
        (kept,) = target.probes
        assert (kept.spec, kept.hits, kept.sites[0].name, kept.sites[0].mode) == ("hot:hot", 1500, "hot", "jump")
        other = target.probe("hot:hot")
        hot.order(10)
        hot.wait_line("ns")
        assert (kept.hits, other.hits) == (1510, 10)
        kept.remove()
        assert target.probes == [other]
        hot.order(1)
        hot.wait_line("ns")
        assert other.hits == 11
    assert executable_text(hot.pid) == before
    assert hot.finish()["hot"] == 1511


def test_threads_are_busy_while_tracers_come_and_go(victim):
    busy = victim("busy_threads")
    before = executable_text(busy.pid)
    target = uprobes.attach(busy.pid)
    target.probe("busy_threads:work_*", mode="jump")
    busy.order(30)
    for _ in range(6):
        target.detach(keep=True)
        target = uprobes.attach(busy.pid)
    busy.wait_line("rounds")
    with target:
        (kept,) = target.probes
        counts = {site.symbol: site.hits for site in kept.sites if not site.refusal}
    assert executable_text(busy.pid) == before
    reports = busy.finish()
    assert len(counts) > 150
    assert counts == {name: reports[name] for name in counts}


def test_a_child_counts_into_nobody_s_numbers(victim):
    parent = victim("children")
    target = uprobes.attach(parent.pid)
    target.probe("children:work")
    target.detach(keep=True)
    alone = victim("children")
    alone.order(1)
    expected = dict(alone.wait_line(how).split() for how in ("fork", "vfork", "clone", "spawn"))
    parent.order(1)
    assert dict(parent.wait_line(how).split() for how in ("fork", "vfork", "clone", "spawn")) == expected
    with uprobes.attach(parent.pid) as target:
        counted = target.probes[0].hits
        reports = parent.finish()
        target.run(timeout=20)
    assert counted == reports["work"]


def test_another_process_finds_them_and_recover_takes_them_back(victim, uprobes_cli):
    hot = victim("hot")
    before = executable_text(hot.pid)
    subprocess.run([sys.executable, "-c", LEAVE, str(hot.pid), "hot:hot"], env=ENVIRONMENT, check=True)
    hot.order(100)
    hot.wait_line("ns")
    with uprobes.attach(hot.pid) as target:
        assert [probe.hits for probe in target.probes] == [100]
        target.detach(keep=True)
    assert executable_text(hot.pid) != before
    done = uprobes_cli("recover", "-p", hot.pid)
    assert done.returncode == 0, done.stderr
    assert executable_text(hot.pid) == before
    with uprobes.attach(hot.pid) as target:
        assert target.probes == []
    hot.order(1)
    hot.wait_line("ns")
    assert hot.finish()["hot"] == 101


def test_what_somebody_has_changed_meanwhile_is_left_alone(victim):
    hot = victim("hot")
    target = uprobes.attach(hot.pid)
    address = target.probe("hot:hot").sites[0].address
    target.detach(keep=True)
    with open(f"/proc/{hot.pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(address)
        jump = memory.read(5)
        memory.seek(address)
        memory.write(b"\xc3")
        with uprobes.attach(hot.pid) as target:
            assert target.probes[0].sites[0].refusal is Refusal.CHANGED
        memory.seek(address)
        assert memory.read(1) == b"\xc3"
        memory.seek(address)
        memory.write(jump)
    hot.order(1)
    hot.wait_line("ns")
    assert hot.finish()["hot"] == 1


def test_only_what_jumps_serve_stays(victim):
    hot = victim("hot")
    before = executable_text(hot.pid)
    target = uprobes.attach(hot.pid)
    target.probe("hot:hot", mode="trap")
    target.detach(keep=True)
    assert executable_text(hot.pid) == before
    with uprobes.attach(hot.pid) as target:
        assert target.probes == []


def test_rights_over_the_process_are_enough(victim, as_user, builder, monkeypatch):
    """Without more than that the board's file cannot be opened: another takes its place, and no count is lost."""
    private = builder.directory / "private"
    private.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(private, "nobody")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(private))
    hot = victim("hot", user="nobody")

    def leave():
        target = uprobes.attach(hot.pid)
        target.probe("hot:hot", mode="jump")
        target.detach(keep=True)

    def come_back():
        with uprobes.attach(hot.pid) as target:
            (kept,) = target.probes
            before = kept.hits
            hot.order(66)
            wait_until(lambda: kept.hits == before + 66, "66 more")
            return before

    as_user(leave)
    hot.order(1234)
    hot.wait_line("ns")
    assert as_user(come_back) == 1234
    assert hot.finish()["hot"] == 1300
