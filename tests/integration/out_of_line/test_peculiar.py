"""Every instruction of functions that would notice: flags, system calls, red zone, faults, and signals in between."""

import pytest

import uprobes
from tests.process import executable_text
from tests.victim import Victim
from uprobes.refusal import Refusal

FUNCTIONS = [
    "pushed_flags", "popped_flags", "system_call", "interrupt_80", "read_byte", "red_zone", "stack_calls", "strings",
    "encodings", "faulting_load", "faulting_divide",
]  # fmt: skip
WAYS = [("trap", "auto"), ("step", "auto"), ("step", "scratch"), ("auto", "auto")]
ROUNDS = 200
TICKS_US = [500, 100]  # the quicker ones come again and again at the same instruction, which is then finished first


@pytest.fixture(scope="module")
def quiet(builder):
    """What the program reports when nobody looks at it."""
    with Victim(builder.build("peculiar")) as alone:
        alone.order(ROUNDS)
        return alone.finish()


def every_instruction(target, mode, rip):
    addresses = [a for name in FUNCTIONS for a in target.instructions(f"peculiar:{name}")]
    return target.probe([f"{address:#x}" for address in addresses], mode=mode, rip=rip)


def entries(probe):
    """Hits of each function's first instruction. (One that faults is no place to count calls.)"""
    return {site.symbol: site.hits for site in probe.sites if site.offset == 0 and site.symbol != "faulting_load"}


def calls(waits):
    once = {name: ROUNDS for name in FUNCTIONS if name != "faulting_load"}
    return once | {"read_byte": waits, "popped_flags": 2 * ROUNDS}


@pytest.mark.parametrize(("mode", "rip"), WAYS)
def test_the_program_cannot_tell(victim, quiet, mode, rip):
    program = victim("peculiar")
    before = executable_text(program.pid)
    with uprobes.attach(program.pid) as target:
        probe = every_instruction(target, mode, rip)
        assert not any(site.refusal for site in probe.sites)
        program.order(ROUNDS)
        program.wait_line("rounds")
        assert entries(probe) == calls(waits=0)
    assert executable_text(program.pid) == before
    assert program.finish() == quiet


@pytest.mark.parametrize("tick_us", TICKS_US)
@pytest.mark.parametrize("mode", ["trap", "step"])
def test_nor_can_its_signal_handlers(builder, mode, tick_us):
    with Victim([str(builder.build("peculiar")), str(tick_us)]) as program:
        with uprobes.attach(program.pid) as target:
            probe = every_instruction(target, mode, "auto")
            program.order(ROUNDS)
            program.wait_line("rounds")
            counts = entries(probe)
            hits = {(site.symbol, site.offset): site.hits for site in probe.sites}
        reports = program.finish()
    assert reports["ticked"]
    assert (reports["wrong"], reports["strange_ips"], reports["faults_elsewhere"]) == (0, 0, 0)
    assert counts == calls(waits=-(-ROUNDS // 16))
    # Straight code runs as often at its end as at its start, however often it was interrupted.
    for name in ("pushed_flags", "popped_flags", "system_call", "interrupt_80", "read_byte"):
        assert len({count for (symbol, _), count in hits.items() if symbol == name}) == 1, name


@pytest.mark.parametrize(
    ("mode", "rip"),
    [("trap", "displacement"), ("step", "displacement"), ("step", "scratch"), ("step", "segment")],
)
def test_every_strategy_on_a_live_program(victim, mode, rip):
    program = victim("rip_relative")
    with uprobes.attach(program.pid) as target:
        probe = target.probe("rip_relative:load", mode=mode, rip=rip)
        program.order(ROUNDS)
        program.wait_line("ns")
        assert probe.hits == ROUNDS
    assert program.finish()["value"] == 3 * ROUNDS


@pytest.mark.parametrize("rip", ["scratch", "segment"])
def test_strategy_that_one_stop_cannot_do_is_refused(victim, rip):
    with uprobes.attach(victim("rip_relative").pid) as target:
        with pytest.raises(uprobes.ProbeRefused) as refused:
            target.probe("rip_relative:load", mode="trap", rip=rip)
        assert refused.value.refusal == Refusal.STRATEGY
