"""How instructions behave under the trap flag: each form runs with and without it, and `step` must say so."""

import numpy as np
import pytest

from tests.differential import influence
from tests.differential.forms import drawn
from tests.differential.ours import FLOW_NEXT, Decoded, decode
from tests.differential.spaces import Codes
from tests.differential.verdict import DANGEROUS, Names, options
from tests.oracle import EXECUTE_IN, Oracle, Outcome
from tests.oracle.oracle import START_GPR, pack

SEQUENCES = 400_000
PLAIN, REPEAT, SHADOW, TF_OUT, TF_IN, SWALLOW, SYSCALL, FAULT = range(8)  # enum insn_step
# Instructions whose results differ from run to run: nothing follows from a difference.
UNSTEADY = frozenset({"rdtsc", "rdtscp", "rdpid", "rdrand", "rdseed", "rdpru", "cpuid"})
DATA_SEGMENT = 0x2B


@pytest.fixture(scope="module")
def seen():
    """(place, mnemonic, insn, stepped, free) for every form that goes on to the next instruction."""
    names, found = Names(), []
    with Oracle() as oracle:
        for bits, codes, decoded in drawn(0, SEQUENCES, each=1):
            names_here = [names.of(insn) for insn in decoded.insn]
            for state in influence.states(np.random.default_rng(1), bits):
                stepped, free = (run(oracle, bits, codes, decoded, state, step) for step in (1, 0))
                for row, name in enumerate(names_here):
                    if decoded.insn["flow"][row] == FLOW_NEXT and name not in DANGEROUS:
                        code = codes[row].tobytes()[: decoded.insn["length"][row]].hex()
                        found.append(
                            (f"{bits} {code} ({name})", name, decoded.insn[row], stepped[row], free[row])
                        )
    return found


def run(oracle: Oracle, bits: int, codes: Codes, decoded: Decoded, state: influence.State, step: int):
    records = np.zeros(len(codes), EXECUTE_IN)
    records["code"], records["length"], records["bits"] = codes, decoded.insn["length"], bits
    records["gpr"], records["eflags"], records["fill"], records["step"] = (
        state.gpr,
        state.eflags,
        state.fill,
        step,
    )
    return oracle.execute(records)


def executed(seen):
    """Those that ran to their end both ways."""
    return [case for case in seen if case[3]["outcome"] == case[4]["outcome"] == Outcome.EXECUTED]


def test_one_trap_after_the_instruction_where_it_is_plain(seen):
    plain = [case for case in executed(seen) if case[2]["step"] in (PLAIN, TF_OUT)]
    wrong = [
        place
        for place, _, insn, stepped, _ in plain
        if (stepped["stop"], stepped["moved"]) != (Outcome.EXECUTED, insn["length"])
    ]
    assert len(plain) > 1000
    assert not wrong, "\n".join(wrong[:50])


def test_trap_is_lost_where_it_is_swallowed(seen):
    swallowed = [case for case in executed(seen) if case[2]["step"] == SWALLOW]
    assert all(stepped["stop"] == Outcome.PF for _, _, _, stepped, _ in swallowed)


def test_shadow_lets_the_next_instruction_run_too():
    code = np.array([pack(bytes.fromhex("8ed0" + "90"))])  # mov ss, eax; nop
    decoded = decode(code, np.array([64], np.uint8), options())
    assert decoded.insn["step"][0] == SHADOW
    records = np.zeros(1, EXECUTE_IN)
    records["code"], records["length"], records["bits"], records["step"] = code, 3, 64, 1
    records["gpr"], records["gpr"][:, 0] = START_GPR, DATA_SEGMENT
    with Oracle() as oracle:
        (result,) = oracle.execute(records)
    assert (result["stop"], result["moved"]) == (Outcome.EXECUTED, 3)


def test_repeating_instructions_trap_before_their_end(seen):
    """With a count above 1 the first trap finds ip unmoved."""
    repeated = [case for case in executed(seen) if case[2]["step"] == REPEAT]
    assert {stepped["moved"] == 0 for _, _, _, stepped, _ in repeated} >= {True}
    assert all(stepped["moved"] in (0, insn["length"]) for _, _, insn, stepped, _ in repeated)


def test_trap_flag_shows_only_where_it_is_said(seen):
    """Without a repeat, registers and memory come out alike with the trap flag and without."""
    wrong = []
    for place, name, insn, stepped, free in executed(seen):
        if insn["step"] in (REPEAT, SYSCALL) or name in UNSTEADY:
            continue
        leaks = (stepped["gpr"] != free["gpr"]).any() or stepped["memory"] != free["memory"]
        if leaks != (insn["step"] == TF_OUT):
            wrong.append(f"{place}: the trap flag {'shows' if leaks else 'does not show'}")
    assert not wrong, "\n".join(wrong[:50])


def test_what_is_said_to_fault_never_executes(seen):
    wrong = [
        place
        for place, _, insn, _, free in seen
        if insn["step"] == FAULT and free["outcome"] == Outcome.EXECUTED
    ]
    assert not wrong, "\n".join(wrong[:50])
