"""Whatever ends a session, the target's text is as before and the target runs on."""

import signal
import subprocess

import pytest

import uprobes
from tests.process import COMMAND, ENVIRONMENT, executable_text, tracer_pid, wait_until

MODES = ["trap", "step"]


def start_command(*arguments):
    """The command in the background, with both outputs piped."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda s: s.name)
@pytest.mark.parametrize("mode", MODES)
def test_signal_ends_the_command_with_a_summary(victim, mode, end):
    spin = victim("spin")
    before = executable_text(spin.pid)
    command = start_command("count", "-p", spin.pid, "--mode", mode, "spin:work")
    wait_until(lambda: executable_text(spin.pid) != before, "the probe is in")
    command.send_signal(end)
    out, err = command.communicate(timeout=30)
    assert command.returncode == 0, err
    assert "work" in out
    assert "restored" in err
    assert tracer_pid(spin.pid) == 0
    assert executable_text(spin.pid) == before
    assert spin.finish()["work"] > 0


def test_reader_that_leaves_ends_the_trace(victim):
    spin = victim("spin")
    before = executable_text(spin.pid)
    command = start_command("trace", "-p", spin.pid, "spin:work(%lu)")
    assert "work(" in command.stdout.readline()
    command.stdout.close()
    assert command.wait(30) == 0
    assert "Traceback" not in command.stderr.read()
    command.stderr.close()
    assert executable_text(spin.pid) == before
    spin.finish()


@pytest.mark.parametrize("mode", MODES)
def test_exception_in_a_callback(victim, mode):
    hot = victim("hot")
    before = executable_text(hot.pid)
    with uprobes.attach(hot.pid) as target:

        @target.on("hot:hot", mode=mode)
        def _(hit):
            return 1 // 0

        hot.order(1000)
        with pytest.raises(ZeroDivisionError):
            target.run(timeout=30)
    assert tracer_pid(hot.pid) == 0
    assert executable_text(hot.pid) == before
    hot.wait_line("ns")
    assert hot.finish()["hot"] == 1000


@pytest.mark.parametrize("mode", MODES)
def test_detach_while_threads_are_busy(victim, mode):
    busy = victim("busy_threads")
    before = executable_text(busy.pid)
    busy.order(3)
    for _ in range(5):
        with uprobes.attach(busy.pid) as target:
            target.probe("busy_threads:work_*", mode=mode)
        assert executable_text(busy.pid) == before
    busy.wait_line("rounds")
    assert busy.finish()["work_arith_0"] == 2 * 8 * 3


def test_removed_and_disabled_probes_leave_the_text(victim):
    hot = victim("hot")
    before = executable_text(hot.pid)
    with uprobes.attach(hot.pid) as target:
        probe = target.probe("hot:hot")
        other = target.probe("hot:hot")
        probe.disable()
        hot.order(10)
        hot.wait_line("ns")
        assert (probe.hits, other.hits) == (0, 10)
        probe.enable()
        other.remove()
        hot.order(10)
        hot.wait_line("ns")
        assert probe.hits == 10
        probe.remove()
        assert executable_text(hot.pid) == before
        hot.order(10)
        hot.wait_line("ns")
    assert hot.finish()["hot"] == 30


def test_reader_that_does_not_read_holds_nothing_up(victim):
    """A pager shows its first page and waits; the traced program goes on, and is let go when it should be."""
    spin = victim("spin")
    before = executable_text(spin.pid)
    command = start_command("trace", "-p", spin.pid, "--budget", 0, "-n", 5000, "spin:work(%lu)")
    wait_until(lambda: executable_text(spin.pid) != before, "the probe is in")
    wait_until(lambda: executable_text(spin.pid) == before, "the probe is out")
    wait_until(lambda: tracer_pid(spin.pid) == 0, "nobody traces the target any more")
    out, err = command.communicate(timeout=60)
    assert command.returncode == 0, err
    assert len(out) > 65536, "the pipe was not full"
    spin.finish()
