"""Children of every kind, and signals at every moment: the program's own business goes on as if alone."""

import pytest

import uprobes

MODES = ["auto", "trap", "step"]
CALLS = {"auto": 5_000_000, "trap": 3000, "step": 3000}
"""Enough for some signals, in each mode."""


@pytest.mark.parametrize("mode", MODES)
def test_children_live_and_are_not_counted(victim, mode):
    alone = victim("children")
    alone.order(1)
    expected = dict(alone.wait_line(how).split() for how in ("fork", "vfork", "clone", "spawn"))
    probed = victim("children")
    with uprobes.attach(probed.pid) as target:
        probe = target.probe("children:work", mode=mode)
        for _ in range(5):
            probed.order(1)
            seen = dict(probed.wait_line(how).split() for how in ("fork", "vfork", "clone", "spawn"))
            assert seen == expected
        reports = probed.finish()
        target.run(timeout=20)
        assert probe.hits == reports["work"] == 20


@pytest.mark.parametrize("mode", MODES)
def test_no_handler_sees_a_slot_and_no_hit_is_lost(victim, mode):
    storm = victim("storm")
    with uprobes.attach(storm.pid) as target:
        probe = target.probe("storm:work", mode=mode)
        storm.order(CALLS[mode])
        assert storm.wait_line("done") == f"done {CALLS[mode]}"
        assert probe.hits == CALLS[mode]
    reports = storm.finish()
    assert reports["foreign"] == 0
    assert reports["signals"] > 10
    assert reports["work"] == CALLS[mode]


@pytest.mark.parametrize("mode", MODES)
def test_every_instruction_under_a_storm(victim, mode):
    storm = victim("storm")
    with uprobes.attach(storm.pid) as target:
        probe = target.probe(target.instructions("storm:work"), mode=mode)
        storm.order(1000)
        assert storm.wait_line("done") == "done 1000"
        assert {site.hits for site in probe.sites} == {1000}
    assert storm.finish()["foreign"] == 0


@pytest.mark.parametrize("mode", MODES)
def test_an_exec_ends_the_probes_and_not_the_program(builder, tmp_path, mode):
    program = builder.build("hot")
    output = tmp_path / "output"
    argv = ["sh", "-c", f"exec {program} < /dev/null"]
    with output.open("wb") as stdout, uprobes.spawn(argv, stdout=stdout.fileno()) as target:
        probe = target.probe("libc:execve", mode=mode)
        target.run(timeout=30)
        assert target.exit_code == 0
        assert probe.hits == 1
    assert output.read_text().startswith("ready\n")


@pytest.mark.parametrize("mode", MODES)
def test_a_fault_is_reported_from_the_instruction_and_counts(victim, mode):
    faulty = victim("faults")
    with uprobes.attach(faulty.pid) as target:
        probes = [target.probe(f"faults:{name}", mode=mode) for name in ("load", "divide")]
        faulty.order(50)
        assert faulty.wait_line("done") == "done 100"
        assert [probe.hits for probe in probes] == [50, 50]
    assert faulty.finish()["wrong"] == 0
