"""Segment registers and bases that ptrace cannot write back as they were: they are left alone."""

import pytest

import uprobes
from tests.process import executable_text

ROUNDS = 20
WAYS = [("trap", "auto"), ("step", "displacement"), ("step", "scratch"), ("step", "segment")]


@pytest.mark.parametrize(("mode", "rip"), WAYS)
def test_every_instruction(victim, mode, rip):
    program = victim("segments")
    before = executable_text(program.pid)
    with uprobes.attach(program.pid) as target:
        probe = target.probe(target.instructions("segments:work"), mode=mode, rip=rip)
        assert not any(site.refusal for site in probe.sites)
        program.order(ROUNDS)
        program.wait_line("rounds")
        counts = {site.offset: site.hits for site in probe.sites}
    assert executable_text(program.pid) == before
    reports = program.finish()
    assert reports["wrong"] == 0
    assert set(counts.values()) == {reports["work"]}


@pytest.mark.parametrize("mode", ["trap", "step"])
def test_registers_changed_by_a_callback(victim, mode):
    program = victim("segments")
    with uprobes.attach(program.pid) as target:

        @target.on("segments:work", mode=mode)
        def work(hit):
            hit.regs.rax = 1
            assert hit.regs.gs_base in (0, 0xFFFF800000001000)

        program.order(ROUNDS)
        program.wait_line("rounds")
        hits = work.probe.hits
    reports = program.finish()
    assert reports["wrong"] == 0
    assert hits == reports["work"]


def test_calls_in_a_program_whose_returns_are_checked(victim, monkeypatch):
    """As on a processor with shadow stacks, which this one may not be: the kernel's word is put in its mouth."""
    monkeypatch.setattr("uprobes.sites.has_shadow_stack", lambda pid: True)
    program = victim("segments")
    with uprobes.attach(program.pid) as target:
        probe = target.probe(target.instructions("segments:work"))
        refused = {site.insn.mnemonic for site in probe.sites if site.refusal is uprobes.Refusal.SHADOW_STACK}
        assert refused == {"call"}
        assert sum(site.refusal is not None for site in probe.sites) == 1
        program.order(2)
        program.wait_line("rounds")
    assert program.finish()["wrong"] == 0
