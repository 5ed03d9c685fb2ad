"""A probe that is hit all the time takes no more of the target than it may, and what it missed is told."""

import time

import pytest

import uprobes
from tests.process import executable_text, wait_until

MODES = ["trap", "step"]


@pytest.mark.parametrize("mode", MODES)
def test_hot_probe_is_throttled_and_the_rest_is_not(victim, mode):
    spin = victim("spin")
    before = executable_text(spin.pid)
    with uprobes.attach(spin.pid, budget=0.1) as target:
        probe = target.probe("spin:work", mode=mode)
        rare = target.probe("libc:read", mode=mode)
        wait_until(lambda: probe.throttled > 0.5, "the probe was switched off for a time")
        assert probe.lost > probe.hits
        assert probe.hits > 100
        assert (rare.throttled, rare.lost) == (0, 0)
    assert executable_text(spin.pid) == before
    assert spin.finish()["work"] >= probe.hits


@pytest.mark.parametrize("mode", MODES)
def test_without_a_budget_every_hit_counts(victim, mode):
    hot = victim("hot")
    with uprobes.attach(hot.pid) as target:
        probe = target.probe("hot:hot", mode=mode)
        hot.order(20_000)
        hot.wait_line("ns")
        assert (probe.hits, probe.lost, probe.throttled) == (20_000, 0, 0)


def test_a_budget_that_is_not_spent_changes_nothing(victim):
    hot = victim("hot")
    with uprobes.attach(hot.pid, budget=0.5) as target:
        probe = target.probe("hot:hot")
        for _ in range(20):
            hot.order(10)
            hot.wait_line("ns")
            time.sleep(0.005)
        assert (probe.hits, probe.lost, probe.throttled) == (200, 0, 0)


@pytest.mark.parametrize("budget", [0, -1, 1.5])
def test_a_budget_is_a_share(victim, budget):
    with pytest.raises(uprobes.UprobeError, match="not a share"):
        uprobes.attach(victim("hot").pid, budget=budget)
