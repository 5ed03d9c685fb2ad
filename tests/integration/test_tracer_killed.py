"""A seeded slice of the kills that `make kill` runs by the thousand, and what is left afterwards in detail."""

import json
import os
import signal
from pathlib import Path

import pytest

import uprobes
from tests.kills.campaign import Campaign
from tests.kills.host import host
from tests.process import executable_text, tracer_pid, wait_until
from uprobes import journal

KILLS = 30


def kill_both(pid, tracer):
    """The tracer and the program around it, with no time for either to put anything right."""
    os.kill(pid, signal.SIGSTOP)
    os.kill(tracer, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)


def freeze(target):
    """Stops all threads of a target, as Ctrl-Z does."""

    def stopped():
        texts = [path.read_text() for path in Path(f"/proc/{target.pid}/task").glob("*/stat")]
        return {text.rpartition(")")[2].split()[0] for text in texts} == {"T"}

    os.kill(target.pid, signal.SIGSTOP)
    wait_until(stopped, "it stands still")


def abandoned(target, mode, phase="hits"):
    """Leaves a target with the probes of a dead tracer."""
    with host(target.pid, mode, phase) as pid:
        kill_both(pid, tracer_pid(target.pid))
    wait_until(lambda: tracer_pid(target.pid) == 0, "the tracer is gone")


@pytest.mark.parametrize("mode", ["trap"])
def test_no_target_is_lost(builder, mode):
    outcome = Campaign(builder, mode, seed=11).run(KILLS)
    assert outcome.lost == []
    assert outcome.rounds > 0


def test_hits_go_on_without_a_tracer_until_recover(victim, uprobes_cli):
    target = victim("killed")
    before = executable_text(target.pid)
    abandoned(target, "trap")
    assert executable_text(target.pid) != before
    target.order(1)
    first = int(target.wait_line("rounds").split()[1])
    wait_until(lambda: (target.order(1), int(target.wait_line("rounds").split()[1]) > first)[1], "it works on")
    done = uprobes_cli("recover", "-p", target.pid, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["pid"], report["foreign"], report["complete"], report["gone"]) == (target.pid, [], True, False)
    assert report["restored"] > 100
    assert executable_text(target.pid) == before
    assert journal.find(target.pid) == []
    again = uprobes_cli("recover", "-p", target.pid)
    assert again.returncode == 0
    assert again.stdout == f"no tracer that was killed has left anything in process {target.pid}\n"
    assert target.finish()["wrong"] == 0


def test_recover_without_a_pid_finds_every_process(victim, uprobes_cli):
    targets = [victim("killed") for _ in range(2)]
    texts = [executable_text(target.pid) for target in targets]
    for target in targets:
        abandoned(target, "trap")
    done = uprobes_cli("recover")
    assert done.returncode == 0, done.stderr
    for target, text in zip(targets, texts, strict=True):
        assert f"process {target.pid}: " in done.stdout
        assert executable_text(target.pid) == text
        assert target.finish()["wrong"] == 0


def test_the_next_attach_puts_things_right_first(victim):
    target = victim("killed")
    before = executable_text(target.pid)
    abandoned(target, "trap")
    with uprobes.attach(target.pid) as attached:
        assert executable_text(target.pid) == before
        probe = attached.probe("killed:shape_nop")
        wait_until(lambda: probe.hits > 100, "hits are counted")
    assert executable_text(target.pid) == before
    assert target.finish()["wrong"] == 0


def test_a_host_that_lives_is_told_and_takes_all_back(victim):
    target = victim("killed")
    before = executable_text(target.pid)
    attached = uprobes.attach(target.pid)
    probe = attached.probe("killed:shape_*")
    wait_until(lambda: probe.hits > 100, "hits are counted")
    os.kill(tracer_pid(target.pid), signal.SIGKILL)
    wait_until(lambda: not attached.alive, "the host has noticed", timeout=5)
    assert executable_text(target.pid) == before
    assert probe.hits > 100
    with pytest.raises(uprobes.TracerLost):
        attached.probe("killed:shape_nop")
    with pytest.raises(uprobes.TracerLost, match="all was taken back; hint: attach again"):
        attached.run(timeout=1)
    attached.detach()
    assert journal.find(target.pid) == []
    assert target.finish()["wrong"] == 0


def test_recover_leaves_foreign_bytes_alone(victim):
    """Somebody else has written where the dead tracer had: what is there is not ours to overwrite."""
    target = victim("killed")
    with host(target.pid, "trap", "hits") as pid:
        [taken] = journal.find(target.pid)
        kill_both(pid, tracer_pid(target.pid))
    wait_until(lambda: tracer_pid(target.pid) == 0, "the tracer is gone")
    made = journal.take(taken)
    place = next(patch for patch in made.records.patches() if len(patch[1]) > 3)
    made.close()
    freeze(target)
    with open(f"/proc/{target.pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(place[0])
        memory.write(b"\xf4")
        [recovery] = uprobes.recover(target.pid)
        assert recovery.foreign == [place[0]]
        assert recovery.restored > 100
        assert not recovery.complete  # nobody can be asked to put the disposition back
        memory.seek(place[0])
        assert memory.read(1) == b"\xf4"
        memory.seek(place[0])
        memory.write(place[1][:1])
    os.kill(target.pid, signal.SIGCONT)
    [recovery] = uprobes.recover(target.pid)
    assert recovery.complete
    assert target.finish()["wrong"] == 0


def test_recover_believes_nothing_in_the_target(victim):
    """The target, or another debugger, has scrambled every area of ours; the worst that may come of it is its own."""
    target = victim("killed")
    before = executable_text(target.pid)
    abandoned(target, "trap")
    freeze(target)
    made = journal.take(journal.find(target.pid)[0])
    areas = made.records.areas()
    made.close()
    with open(f"/proc/{target.pid}/mem", "r+b", buffering=0) as memory:
        for vaddr, size, _, _ in areas:
            memory.seek(vaddr)
            memory.write(os.urandom(size))
    [recovery] = uprobes.recover(target.pid)
    assert recovery.areas == 0
    assert executable_text(target.pid) == before
    target.kill()


def test_a_process_that_is_gone_or_runs_another_program(victim):
    target = victim("killed")
    abandoned(target, "trap")
    target.kill()
    [recovery] = uprobes.recover(target.pid)
    assert (recovery.gone, recovery.restored) == (True, 0)
    assert journal.find(target.pid) == []


def test_two_instances(victim, uprobes_cli):
    target = victim("killed")
    with uprobes.attach(target.pid) as attached:
        attached.probe("killed:shape_nop")
        for arguments in (["count", "-p", target.pid, "--for", "1", "killed:shape_nop"], ["recover", "-p", target.pid]):
            other = uprobes_cli(*arguments)
            assert other.returncode == 77
            assert f"cannot trace process {target.pid}: it is traced by process" in other.stderr
        assert uprobes_cli("recover").returncode == 0  # of all processes: that one is none of its business
        assert attached.alive
    assert target.finish()["wrong"] == 0


def test_the_kernels_word_on_the_disposition(victim):
    """A handler of the target's own gets its traps, before, while and after we are there, and after our death."""
    target = victim("own_traps")
    before = executable_text(target.pid)

    def rounds(number):
        target.order(number)
        target.wait_line("done")

    rounds(100)
    with uprobes.attach(target.pid) as attached:
        probe = attached.probe(attached.instructions("own_traps:work"), mode="trap")
        rounds(100)
        assert probe.hits > 0
    rounds(100)
    with host_of(target, "own_traps:work") as pid:
        kill_both(pid, tracer_pid(target.pid))
    wait_until(lambda: tracer_pid(target.pid) == 0, "the tracer is gone")
    rounds(100)
    uprobes.recover(target.pid)
    rounds(100)
    assert executable_text(target.pid) == before
    reports = target.finish()
    assert reports["caught"] == 500 * 3
    assert reports["wrong"] == 0
    assert reports["mine"] == 1


def host_of(target, spec):
    """A host that has all instructions of a function probed."""
    return host(target.pid, "trap", "hits", spec)


@pytest.mark.parametrize("how", ["int3", "raise", "step"])
def test_a_trap_that_is_not_ours_kills_as_before(victim, how):
    """No handler, no tracer any more, but ours in between: the process dies of SIGTRAP, with the same core of facts."""
    target = victim("traps_itself")
    with host_of(target, "traps_itself:work") as pid:
        kill_both(pid, tracer_pid(target.pid))
    wait_until(lambda: tracer_pid(target.pid) == 0, "the tracer is gone")
    target.order({"int3": 1, "raise": 2, "step": 3}[how])
    assert target.process.wait(20) == -signal.SIGTRAP
    [recovery] = uprobes.recover(target.pid)
    assert recovery.gone
