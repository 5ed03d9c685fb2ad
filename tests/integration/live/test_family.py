"""Children that are followed are targets of their own; those that are not have no byte of ours."""

import re
import time

import pytest

import uprobes
from tests.process import executable_text

MODES = ["trap", "step"]
ORDERS = 5
KINDS = {"fork", "clone3", "threads", "middle", "grandchild", "daemon", "executed"}


def run_orders(victim, orders):
    """What each process of the family said: its kind and how often it worked, by pid."""
    said = {}
    for _ in range(orders):
        victim.order(1)
        while (line := victim.read_line()) != "done":
            kind, pid, calls = line.split()
            said[int(pid)] = kind, int(calls)
    return said


@pytest.mark.parametrize("mode", MODES)
def test_every_child_is_a_target_with_counts_of_its_own(victim, mode):
    family = victim("family")
    with uprobes.attach(family.pid, children="follow") as target:
        probe = target.probe("family:work", mode=mode)
        said = run_orders(family, ORDERS)
        reports = family.finish()
        target.run(timeout=30)
        assert probe.hits == reports["work"] == ORDERS
        assert {kind for kind, _ in said.values()} == KINDS
        kin = {one.pid: one for one in target.kin() if one is not target}
        assert kin.keys() == said.keys()
        for pid, (kind, calls) in said.items():
            # Another program has none of the probes.
            hits = [each.hits for each in kin[pid].probes]
            assert hits == ([] if kind == "executed" else [calls]), kind
            assert kin[pid].exit_code == 0
        names = [(one.parent.pid, said[one.pid][0]) for one in kin.values()]
        assert all((parent == family.pid) == (kind not in {"grandchild", "daemon"}) for parent, kind in names)


@pytest.mark.parametrize("mode", MODES)
def test_children_that_are_not_followed_are_clean(victim, mode):
    family = victim("family")
    with uprobes.attach(family.pid) as target:
        probe = target.probe("family:work", mode=mode)
        said = run_orders(family, ORDERS)
        assert len(said) == ORDERS * len(KINDS)
        assert probe.hits == ORDERS
        assert not target.children
    assert family.finish()["work"] == ORDERS


def test_a_callback_runs_in_children_too(victim):
    family = victim("family")
    seen = []
    with uprobes.attach(family.pid, children="follow") as target:
        target.on("family:work")(lambda hit: seen.append(hit.tid))
        said = run_orders(family, 1)
        family.finish()
        target.run(timeout=30)
    calls = sum(calls for kind, calls in said.values() if kind != "executed")
    assert len(seen) == calls + 1
    assert len(set(seen)) > len(KINDS)


def test_a_child_can_be_probed_and_left_alone(victim):
    """The child goes on with its own text restored while the parent stays probed, and the other way round."""
    forker = victim("lasting_child")
    before = executable_text(forker.pid)
    with uprobes.attach(forker.pid, children="follow") as target:
        probe = target.probe("lasting_child:work")
        forker.order(1)
        pid = int(forker.wait_line("child").split()[1])
        child = next(one for one in target.children if one.pid == pid)
        extra = child.probe("lasting_child:more")
        forker.order(10)
        forker.wait_line("done")
        assert [child.probes[0].hits, extra.hits, probe.hits] == [10, 10, 10]
        child.detach()
        assert executable_text(pid) == before
        forker.order(10)
        forker.wait_line("done")
        assert [child.probes[0].hits, probe.hits] == [10, 20]
    assert executable_text(forker.pid) == before
    forker.finish()


@pytest.mark.parametrize("policy", ["clean", "follow"])
def test_leaving_while_children_are_born(victim, policy):
    """Whoever is born while the target is left runs on, without a byte of ours."""
    family = victim("family")
    for round_ in range(20):
        target = uprobes.attach(family.pid, children=policy)
        target.probe("family:work")
        family.order(1)
        time.sleep(round_ * 0.0007)
        target.detach()
        said = {}
        while (line := family.read_line()) != "done":
            assert re.fullmatch(r"[a-z0-9]+ \d+ \d+", line), line
            said[line.split()[0]] = line
        assert said.keys() == KINDS
    assert family.finish()["work"] == 20
