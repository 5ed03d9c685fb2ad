"""Children of every kind: followed, each counts for itself; left alone, nothing of ours is in them."""

import os
from pathlib import Path

import pytest

import uprobes
from tests.process import executable_text, wait_until

MODES = ["trap", "step"]
KINDS = ["fork", "vfork", "clone", "clone3", "parentless", "spawn", "exec", "parent", "daemon"]
EXECUTED = {"vfork", "spawn", "exec"}


def make_children(victim):
    """One child of each kind: its pid and how often it called `work`."""
    victim.order(1)
    children = {}
    while (line := victim.read_line()) != "made 0":
        how, pid, calls = line.split()
        children[how] = (int(pid), int(calls))
    assert list(children) == KINDS
    return children


@pytest.mark.parametrize("mode", MODES)
def test_followed_children_count_for_themselves(victim, mode):
    parent = victim("lineage")
    before = executable_text(parent.pid)
    with uprobes.attach(parent.pid, children="follow") as target:
        probe = target.probe("lineage:work", mode=mode)
        for _ in range(3):
            children = make_children(parent)
            assert all(calls > 2 for _, calls in children.values())
            wait_until(lambda pids=children: not any(one.alive for one in followed(target, pids)), "all have ended")
            counts = {one.pid: sum(each.hits for each in one.probes) for one in target.family}
            for how, (pid, calls) in children.items():
                assert counts[pid] == (0 if how in EXECUTED else calls), how
        assert probe.hits == 3 * 8
        (clone,) = (one for one in target.family if one.pid == children["clone"][0])
        assert clone.exit_code == 7
        assert clone.parent is target
        daemon = next(one for one in target.family if one.pid == children["daemon"][0])
        assert daemon.parent.pid == children["parent"][0]
    assert executable_text(parent.pid) == before
    assert parent.finish()["work"] == 24


def followed(target, children):
    pids = {pid for pid, _ in children.values()}
    return [one for one in target.family if one.pid in pids]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("children", ["clean", "follow"])
def test_children_live_as_alone(victim, mode, children):
    alone = {how: calls for how, (_, calls) in make_children(victim("lineage")).items()}
    probed = victim("lineage")
    with uprobes.attach(probed.pid, children=children) as target:
        probe = target.probe(target.instructions("lineage:work"), mode=mode)
        for _ in range(3):
            assert {how: calls for how, (_, calls) in make_children(probed).items()} == alone
        assert all(site.hits == 24 for site in probe.sites)
        assert children == "follow" or not target.children
    assert probed.finish()["work"] == 24


def caught(pid):
    """The signals for which a process has handlers."""
    return next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt"))


@pytest.mark.parametrize("mode", MODES)
def test_a_clean_child_has_no_foreign_byte(victim, mode):
    """The child waits, and its text is that of the file; its copies of the slots are empty."""
    parent = victim("forker")
    before, handled = executable_text(parent.pid), caught(parent.pid)
    with uprobes.attach(parent.pid) as target:
        target.probe(target.instructions("forker:work"), mode=mode)
        parent.order(1)
        child = int(parent.wait_line("child").split()[1])
        wait_until(lambda: executable_text(child) == before, "the child is clean")
        assert caught(child) == handled
        for line in Path(f"/proc/{child}/maps").read_text().splitlines():
            span, rights, _, _, _, *name = line.split(None, 5)
            if "x" not in rights or name:
                continue
            start, end = (int(each, 16) for each in span.split("-"))
            with open(f"/proc/{child}/mem", "rb", buffering=0) as memory:
                memory.seek(start)
                content = memory.read(end - start)
                assert b"uprobes traps" in content[:64] or set(content[32:]) == {0xCC}
        parent.order(1)
        assert parent.wait_line("calls") == "calls 10"
    parent.finish()


@pytest.mark.parametrize("mode", MODES)
def test_callbacks_and_new_probes_in_a_child(victim, mode):
    parent = victim("forker")
    seen = []
    with uprobes.attach(parent.pid, children="follow") as target:

        @target.on("forker:work", mode=mode)
        def _(hit):
            seen.append(hit.pid)

        parent.order(1)
        child = int(parent.wait_line("child").split()[1])
        wait_until(lambda: bool(target.children), "the child is followed")
        (follower,) = target.children
        before = executable_text(child)
        own = follower.probe("forker:late", mode=mode)
        assert executable_text(child) != before
        parent.order(1)
        assert parent.wait_line("calls") == "calls 10"
        wait_until(lambda: not follower.alive, "the child has ended")
        assert seen == [child] * 10
        assert own.hits == 1
        assert target.probes[0].hits == 0
        assert os.path.exists(f"/proc/{parent.pid}")
    parent.finish()


@pytest.mark.parametrize("mode", MODES)
def test_a_child_can_be_left_alone_and_outlive_its_parent(victim, mode):
    parent = victim("forker")
    before, handled = executable_text(parent.pid), caught(parent.pid)
    with uprobes.attach(parent.pid, children="follow") as target:
        target.probe("forker:work", mode=mode)
        parent.order(1)
        child = int(parent.wait_line("child").split()[1])
        wait_until(lambda: bool(target.children), "the child is followed")
        target.children[0].detach()
        assert executable_text(child) == before
        assert caught(child) == handled
        assert target.alive
        parent.order(1)
        assert parent.wait_line("calls") == "calls 10"
    parent.finish()


@pytest.mark.parametrize("mode", MODES)
def test_a_condition_holds_in_the_child_too(victim, mode):
    parent = victim("forker")
    with uprobes.attach(parent.pid, children="follow") as target:
        probe = target.probe("forker:work", mode=mode, when="arg0 > 100")
        parent.order(1)
        parent.wait_line("child")
        parent.order(1)
        parent.wait_line("calls")
        wait_until(lambda: target.children and not target.children[0].alive, "the child has ended")
        value, above = 1, 0
        for _ in range(10):
            above += value > 100
            value = value * 3 + (value >> 2)
        assert (probe.hits, target.children[0].probes[0].hits) == (0, above)
        assert 0 < above < 10
    parent.finish()
