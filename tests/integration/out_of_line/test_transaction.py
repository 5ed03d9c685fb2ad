"""Transactions: what is in one is refused, since a trap would abort it each time; all around it is probed."""

from pathlib import Path

import pytest

import uprobes
from uprobes import Refusal

ROUNDS = 200


def has_rtm() -> bool:
    return any(line.startswith("flags") and " rtm" in line for line in Path("/proc/cpuinfo").read_text().splitlines())


@pytest.mark.skipif(not has_rtm(), reason="this processor has no RTM")
@pytest.mark.parametrize("mode", ["trap", "step"])
def test_transactions_commit_as_before(victim, mode):
    alone, program = victim("transaction"), victim("transaction")
    alone.order(2 * ROUNDS)
    program.order(ROUNDS)
    program.wait_line("added")
    with uprobes.attach(program.pid) as target:
        probe = target.probe(target.instructions("transaction:add"), mode=mode)
        refused = [site.insn.mnemonic for site in probe.sites if site.refusal is Refusal.TRANSACTION]
        assert refused == ["xbegin", "inc", "xend"]
        assert sum(site.refusal is not None for site in probe.sites) == len(refused)
        program.order(ROUNDS)
        program.wait_line("added")
        hits = {site.offset: site.hits for site in probe.sites if not site.refusal}
    reports = program.finish()
    assert reports["counter"] == 2 * ROUNDS
    # An interrupt may abort one now and then; not nearly all of them, unless the processor commits none anyway.
    assert reports["committed"] >= alone.finish()["committed"] // 2
    assert hits[0] == ROUNDS
