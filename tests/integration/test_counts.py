"""Counts equal what the program counted itself, and the program does what it does without probes."""

import os

import pytest
from elftools.elf.elffile import ELFFile

import uprobes
from tests.process import executable_text
from tests.victim import Victim

MODES = ["auto", "trap", "step"]
ROUNDS = 4
SYMBOLS = ["add", "six", "factorial", "load_sum", "jump_first", "loops", "total", "scale"]


@pytest.fixture(scope="module")
def bare(builder):
    """What the busy program reports when nobody looks at it."""
    with Victim(builder.build("busy_threads")) as alone:
        alone.order(ROUNDS)
        return alone.finish()


@pytest.mark.parametrize("mode", MODES)
def test_eight_busy_threads_and_two_hundred_functions(victim, bare, mode):
    busy = victim("busy_threads")
    before = executable_text(busy.pid)
    with uprobes.attach(busy.pid) as target:
        probe = target.probe("busy_threads:work_*", mode=mode)
        assert len(probe.sites) == 200
        assert {site.mode for site in probe.sites} == {mode} if mode != "auto" else {"jump", "trap"}
        busy.order(ROUNDS)
        busy.wait_line("rounds")
        counts = {site.symbol: site.hits for site in probe.sites}
        assert probe.lost == 0
        assert probe.hits == sum(counts.values())
    assert executable_text(busy.pid) == before
    reports = busy.finish()
    assert counts == {name: calls for name, calls in reports.items() if name.startswith("work_")}
    assert reports == bare


@pytest.mark.parametrize("mode", MODES)
def test_program_ends_under_probes(victim, bare, mode):
    busy = victim("busy_threads")
    with uprobes.attach(busy.pid) as target:
        probe = target.probe("busy_threads:work_*", mode=mode)
        busy.order(ROUNDS)
        reports = busy.finish()
        target.run(timeout=30)
        assert not target.alive
        assert {site.symbol: site.hits for site in probe.sites}.items() <= reports.items()
    assert reports == bare


@pytest.mark.parametrize("mode", MODES)
def test_probes_come_while_all_threads_are_busy(victim, bare, mode):
    busy = victim("busy_threads")
    busy.order(ROUNDS)
    with uprobes.attach(busy.pid) as target:
        probe = target.probe("busy_threads:work_*", mode=mode)
        reports = busy.finish()
        for site in probe.sites:
            assert site.hits <= reports[site.symbol]
    assert reports == bare


@pytest.mark.parametrize("mode", MODES)
def test_spawned_program_is_counted_from_its_start(builder, tmp_path, mode):
    program = builder.build("busy_threads")
    orders = tmp_path / "orders"
    orders.write_text(f"{ROUNDS}\n")
    with (
        orders.open() as stdin,
        open(os.devnull, "w") as stdout,
        uprobes.spawn([program], stdin=stdin.fileno(), stdout=stdout.fileno()) as target,
    ):
        probe = target.probe("busy_threads:work_arith_*", mode=mode)
        target.run(timeout=60)
        assert not target.alive
    # 8 threads call each function once a round, and its tail caller calls it once more.
    assert [site.hits for site in probe.sites] == [8 * ROUNDS * 2] * 10


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("symbol", SYMBOLS)
def test_every_instruction_of_a_function(victim, symbol, mode):
    """A probe on each instruction: the first one's count is the calls, and the sum comes out the same."""
    alone = victim("calls")
    alone.order(300)
    expected = alone.finish()

    calls = victim("calls")
    before = executable_text(calls.pid)
    with uprobes.attach(calls.pid) as target:
        entry = target.probe(f"calls:{symbol}", mode=mode)
        site = entry.sites[0]
        probes, offset = [], site.insn.length
        while offset < function_size(target, site):
            probe = target.probe(f"calls:{symbol}+{offset}", mode=mode)
            probes.append(probe)
            offset += probe.sites[0].insn.length
        assert probes
        calls.order(300)
        calls.wait_line("rounds")
        assert entry.hits == 300 * {"factorial": 5, "six": 2}.get(symbol, 1)
        assert all(probe.lost == 0 for probe in probes)
    assert executable_text(calls.pid) == before
    assert calls.finish() == expected


def function_size(target, site):
    """In bytes, from the file's symbol table."""
    with open(f"/proc/{target.pid}/exe", "rb") as file:
        (symbol,) = ELFFile(file).get_section_by_name(".symtab").get_symbol_by_name(site.symbol)
        return symbol["st_size"]
