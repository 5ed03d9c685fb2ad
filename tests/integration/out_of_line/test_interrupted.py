"""System calls that a signal interrupts: each is one hit, whether the kernel restarts it, ends it, or is left there."""

import pytest

import uprobes
from tests.process import wait_until
from tests.victim import Victim

FUNCTIONS = ["plain_call", "prefixed_call", "old_call"]
ROUNDS = 30


def every_instruction(target):
    return [a for name in FUNCTIONS for a in target.instructions(f"interrupted:{name}")]


def by_function(probe):
    """The different counts of each function's instructions, up to and with the system call."""
    found = {name: {} for name in FUNCTIONS}
    for site in probe.sites:
        found[site.symbol][site.offset] = site.hits
    return found


@pytest.mark.parametrize("mode", ["trap", "step"])
def test_an_interrupted_call_is_one_hit(victim, mode):
    program = victim("interrupted")
    with uprobes.attach(program.pid) as target:
        probe = target.probe(every_instruction(target), mode=mode)
        assert not any(site.refusal for site in probe.sites)
        program.order(ROUNDS)
        program.wait_line("rounds")
        counts = by_function(probe)
    reports = program.finish()
    assert reports["wrong"] == 0
    for name in FUNCTIONS:
        # A handler that jumps out of the call leaves the `ret` behind it out.
        *counted, _ = (hits for _, hits in sorted(counts[name].items()))
        if name == "old_call":
            counted = counted[:-1]
        assert counted == [reports[name]] * len(counted), name


@pytest.mark.parametrize("mode", ["trap", "step"])
def test_a_callback_runs_once_for_each(victim, mode):
    program = victim("interrupted")
    calls = []
    with uprobes.attach(program.pid) as target:
        instructions = target.instructions("interrupted:plain_call")
        syscall = instructions[-2]

        @target.on(syscall, mode=mode)
        def called(hit):
            calls.append(hit.regs.rax)

        program.order(ROUNDS)
        program.wait_line("rounds")
        hits = called.probe.hits
    reports = program.finish()
    assert reports["wrong"] == 0
    assert (len(calls), hits) == (reports["plain_call"], reports["plain_call"])


@pytest.mark.parametrize("mode", ["trap", "step"])
def test_a_call_under_way_at_detach_stays_counted(victim, builder, mode):
    with Victim(builder.build("hot")) as program, uprobes.attach(program.pid) as target:
        # It waits for orders in read(), and goes back there after each.
        probe = target.probe(target.instructions("libc:read"), mode=mode)
        program.order(1)
        program.wait_line("ns")
        wait_until(lambda: max(site.hits for site in probe.sites) > 0, "a call of read")
        before = [site.hits for site in probe.sites]
        target.detach()
        assert [site.hits for site in probe.sites] == before
