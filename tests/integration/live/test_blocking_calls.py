"""More than sixty kinds of blocking system calls go on as if nobody had come: no EINTR, time-outs in time."""

import time
from contextlib import contextmanager, suppress

import pytest

import uprobes
from uprobes.areas import syscall_number

# What a timed call may take longer than its time-out, beyond what it took a program that nobody traced.
SLACK_MS = 300
TIMED_MS = 1200


def reports(victim):
    """What each call returned, whether it came back early, and after how many milliseconds."""
    victim.order(1)
    victim.wait_line("end")
    return {
        name: (int(result), int(early), int(ms))
        for name, result, early, ms in (line.split() for line in victim.lines if line.count(" ") == 3)
    }


@pytest.fixture(scope="module")
def alone(builder):
    """What the calls return when nobody traces."""
    from tests.victim import Victim

    with Victim(builder.build("blocking")) as one:
        return reports(one)


@contextmanager
def come_and_go(pid, mode):
    time.sleep(0.6)
    with uprobes.attach(pid) as target:
        target.probe("blocking:work", mode=mode)
    yield


@contextmanager
def stop_all(pid, mode):
    with uprobes.attach(pid) as target:
        probe = target.probe("blocking:work", mode=mode)
        tracer = target._owner.tracer

        def stop_and_go():
            tracer.stop_world(5000)
            tracer.resume_world()

        for _ in range(3):
            target._owner.call(stop_and_go)
            time.sleep(0.2)
        yield
        assert probe.hits >= 60


@contextmanager
def ask_all(pid, mode):
    """A system call in every thread, whatever it sleeps in."""
    with uprobes.attach(pid) as target:
        probe = target.probe("blocking:work", mode=mode)
        areas, tracer = target._sites.areas, target._owner.tracer
        time.sleep(0.6)
        for tid in target.tasks:
            call = lambda tid=tid: tracer.system_call(tid, areas.gadget, syscall_number("getppid"), ())  # noqa: E731
            with suppress(ProcessLookupError):  # its call was over before its turn came
                assert target._owner.call(call) > 0
        yield
        assert probe.hits >= 60


@pytest.mark.parametrize("mode", ["trap", "step"])
@pytest.mark.parametrize("disturb", [come_and_go, stop_all, ask_all])
def test_calls_go_on(victim, alone, disturb, mode):
    sleeper = victim("blocking")
    with disturb(sleeper.pid, mode):
        seen = reports(sleeper)
    assert len(seen) >= 60
    wrong = {name: (alone[name], seen[name]) for name in alone if seen[name][:2] != alone[name][:2]}
    assert wrong == {}
    late = {
        name: (alone[name][2], ms)
        for name, (_, _, ms) in seen.items()
        if TIMED_MS <= alone[name][2] < TIMED_MS + 200 and ms > alone[name][2] + SLACK_MS
    }
    assert late == {}
