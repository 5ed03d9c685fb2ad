"""What `explain` says of a place in a process is what inserting a probe there says."""

import json

import pytest

import uprobes
from uprobes import Refusal


def explained(uprobes_cli, pid, spec, **options):
    """The refusals that `explain` tells, by address."""
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    done = uprobes_cli("explain", "-p", pid, spec, "--json", *words)
    facts = [json.loads(line) for line in done.stdout.splitlines()]
    return {int(fact["address"], 16): fact["refusal"] and Refusal[fact["refusal"].upper()] for fact in facts}


def inserted(pid, spec, **options):
    """The refusals of the sites of a probe."""
    with uprobes.attach(pid) as target:
        try:
            return {site.address: site.refusal for site in target.probe(spec, **options).sites}
        except uprobes.ProbeRefused as refused:
            return {refused.address: refused.refusal}


def patch(pid, address, code):
    """Do what another tool may have done."""
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(address)
        memory.write(code)


@pytest.mark.parametrize(
    ("name", "spec", "options", "refusal"),
    [
        ("hot", "hot:hot", {}, None),
        ("hot", "hot:hot+1", {}, Refusal.INSIDE),
        ("hot", "0x1000", {}, Refusal.NOT_EXECUTABLE),
        ("rip_relative", "rip_relative:load", {"mode": "trap", "rip": "scratch"}, Refusal.STRATEGY),
        ("restartable", "restartable:sequence_start", {}, Refusal.RSEQ),
        ("calls", "calls:*", {}, None),
    ],
)
def test_the_same_answer(victim, uprobes_cli, name, spec, options, refusal):
    pid = victim(name).pid
    said = explained(uprobes_cli, pid, spec, **options)
    assert said == inserted(pid, spec, **options)
    if len(said) == 1:
        assert set(said.values()) == {refusal}


def test_somebody_elses_patch(victim, uprobes_cli):
    hot = victim("hot")
    (address,) = explained(uprobes_cli, hot.pid, "hot:hot")
    with open(f"/proc/{hot.pid}/mem", "rb") as memory:
        memory.seek(address)
        before = memory.read(1)
    patch(hot.pid, address, b"\xcc")
    said = explained(uprobes_cli, hot.pid, "hot:hot")
    assert said == inserted(hot.pid, "hot:hot") == {address: Refusal.CHANGED}
    patch(hot.pid, address, before)
    hot.order(10)
    assert hot.finish()["hot"] == 10


def test_code_that_is_shared_with_its_file(victim, uprobes_cli):
    program = victim("shared_code")
    address = int(program.lines[0].split()[1])
    said = explained(uprobes_cli, program.pid, hex(address))
    assert said == inserted(program.pid, hex(address)) == {address: Refusal.SHARED}
    program.finish()


def test_a_file_forbids_places_by_itself(builder, uprobes_cli):
    done = uprobes_cli("explain", f"{builder.build('restartable')}:sequence_start", "--json")
    assert json.loads(done.stdout)["refusal"] == "rseq"
