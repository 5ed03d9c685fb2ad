"""Very many threads, and very many visits: exact counts, undisturbed sleepers, nothing left behind in us or in them."""

import gc
import os
import signal
from pathlib import Path

import pytest

import uprobes
from tests.process import executable_text, wait_until
from tests.victim import Victim

MODES = ["trap", "step"]
ROUNDS = int(os.environ.get("UPROBES_ROUNDS", "200"))


def crowd(builder, threads, busy):
    return Victim([str(builder.build("crowd")), str(threads), str(busy)])


@pytest.mark.parametrize("mode", MODES)
def test_a_thousand_threads(builder, mode):
    with crowd(builder, 1000, 20) as many:
        before = executable_text(many.pid)
        with uprobes.attach(many.pid) as target:
            assert len(target.tasks) == 1000 + 1
            probe = target.probe("crowd:work", mode=mode)
            tracer = target._owner.tracer

            def stop_and_look():
                tracer.stop_world(20_000)
                states = {state(many.pid, tid) for tid in tracer.tasks()}
                tracer.resume_world()
                return states, probe.hits

            for _ in range(3):
                states, stopped = target._owner.call(stop_and_look)
                assert states == {"t"}
                wait_until(lambda seen=stopped: probe.hits > seen, "the busy ones go on")
        assert executable_text(many.pid) == before
        assert many.finish()["work"] >= probe.hits


def test_ten_thousand_threads(builder):
    with crowd(builder, 10_000, 2) as many:
        with uprobes.attach(many.pid) as target:
            assert len(target.tasks) == 10_000 + 1
            probe = target.probe("crowd:work")
            wait_until(lambda: probe.hits > 100, "hits")
        assert many.finish()["work"] >= probe.hits


def state(pid, tid):
    return Path(f"/proc/{pid}/task/{tid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("mode", MODES)
def test_a_stopped_program_stays_stopped(victim, mode):
    """Ctrl-Z works as ever: attaching and probing do not wake it, SIGCONT does."""
    spin = victim("spin")
    before = executable_text(spin.pid)
    os.kill(spin.pid, signal.SIGSTOP)
    wait_until(lambda: state(spin.pid, spin.pid) == "T", "it is stopped")
    with uprobes.attach(spin.pid) as target:
        probe = target.probe("spin:work", mode=mode)
        counted = probe.hits
        assert all(state(spin.pid, tid) in "tT" for tid in target.tasks)
        assert probe.hits == counted
        os.kill(spin.pid, signal.SIGCONT)
        wait_until(lambda: probe.hits > counted + 10, "it goes on")
        os.kill(spin.pid, signal.SIGSTOP)
        wait_until(lambda: all(state(spin.pid, tid) in "tT" for tid in target.tasks), "it is stopped again")
    wait_until(lambda: state(spin.pid, spin.pid) == "T", "it stays stopped when we have gone")
    assert executable_text(spin.pid) == before
    os.kill(spin.pid, signal.SIGCONT)
    assert spin.finish()["work"] >= probe.hits


def resident(pid):
    """Pages of memory of its own that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])


def test_visits_leave_nothing_behind(victim):
    spin = victim("spin")

    def visit(mode):
        with uprobes.attach(spin.pid) as target:
            target.probe("spin:work", mode=mode)

    for mode in MODES * 5:
        visit(mode)
    gc.collect()
    text = executable_text(spin.pid)
    maps = Path(f"/proc/{spin.pid}/maps").read_text()
    descriptors = [len(os.listdir(f"/proc/{pid}/fd")) for pid in (os.getpid(), spin.pid)]
    theirs = resident(spin.pid)
    for round_ in range(ROUNDS):
        visit(MODES[round_ % 2])
        if round_ == ROUNDS // 2:
            ours = resident(os.getpid())
    gc.collect()
    assert Path(f"/proc/{spin.pid}/maps").read_text() == maps
    assert executable_text(spin.pid) == text
    assert [len(os.listdir(f"/proc/{pid}/fd")) for pid in (os.getpid(), spin.pid)] == descriptors
    assert resident(spin.pid) <= theirs + 16
    # An allocator keeps some, now more and now less; what leaks adds up.
    assert resident(os.getpid()) <= ours + ROUNDS // 4 + 1024
    assert spin.finish()["work"] > 0
