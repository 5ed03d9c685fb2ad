"""The golden instructions against the processor at hand: lengths, outcomes, where control and stack go."""

import numpy as np
import pytest

from tests.golden import Case, cases
from tests.oracle import EXECUTE_IN, JUDGE_IN, Hint, Oracle, Outcome, processor
from tests.oracle.oracle import START_GPR, pack

CODE_END = 0x10001000
RSP = 4


def applicable() -> list[Case]:
    return [case for case in cases() if case.whom is None or case.whom in processor.generations()]


def possible_outcomes(case: Case) -> set[str]:
    """Without a feature #UD; but a hypervisor may hide one that is there."""
    if case.outcome == "varies":
        return {"executes", "#UD"}
    return {case.outcome} if processor.features().issuperset(case.features) else {case.outcome, "#UD"}


@pytest.fixture(scope="module")
def oracle():
    with Oracle() as oracle:
        yield oracle


def judged(oracle: Oracle, golden: list[Case], hint: Hint):
    records = np.zeros(len(golden), JUDGE_IN)
    for record, case in zip(records, golden, strict=True):
        record["code"], record["bits"], record["hint"] = pack(case.code), case.bits, hint
    return oracle.judge(records)



def test_outcomes_are_the_processors(oracle):
    golden = applicable()
    wrong = []
    for case, result in zip(golden, judged(oracle, golden, Hint.EXACT), strict=True):
        seen = Outcome(result["outcome"]).label
        if seen not in possible_outcomes(case):
            wrong.append(
                f"{case.place}: {case.code.hex()}: {case.outcome} expected, the processor says {seen}"
            )
    assert not wrong


def test_lengths_are_the_processors(oracle):
    golden = [case for case in applicable() if case.length is not None]
    wrong, judged_lengths = [], 0
    for case, result in zip(golden, judged(oracle, golden, Hint.EXACT), strict=True):
        if result["outcome"] == Outcome.UD:
            continue  # bytes fetched before #UD are no length
        judged_lengths += 1
        if result["length"] != case.length:
            wrong.append(f"{case.place}: {case.code.hex()}: {case.length} expected, {result['length']} taken")
    assert not wrong
    assert judged_lengths > len(golden) / 2


def test_refused_bytes_do_not_execute(oracle):
    golden = [case for case in applicable() if case.length is None]
    results = judged(oracle, golden, Hint.EXACT)
    for case, result in zip(golden, results, strict=True):
        too_long = result["outcome"] == Outcome.GP and result["length"] == 15
        assert result["outcome"] == Outcome.UD or too_long, f"{case.place}: {case.code.hex()}"



def test_control_and_stack_go_where_the_data_says(oracle):
    golden = [
        case
        for case in applicable()
        if case.length
        and possible_outcomes(case) == {"executes"}
        and case.code[: case.length][-2:]
        not in (b"\x0f\x05", b"\x0f\x34")  # the kernel decides where it returns to
    ]
    records = np.zeros(len(golden), EXECUTE_IN)
    for record, case in zip(records, golden, strict=True):
        record["code"], record["length"], record["bits"] = pack(case.code), case.length, case.bits
        record["gpr"], record["eflags"], record["step"] = START_GPR, 0x202, 1
    wrong = []
    for case, result in zip(golden, oracle.execute(records), strict=True):
        assert case.length is not None
        ip = (CODE_END - case.length + int(result["moved"])) % 2**64
        rsp = int(result["gpr"][RSP])
        wanted_rsp = (
            START_GPR[RSP] + (case.stack_delta or 0) if case.stack_pointer is None else case.stack_pointer
        )
        if (ip, rsp) != (CODE_END if case.ip is None else case.ip, wanted_rsp):
            wrong.append(
                f"{case.place}: {case.code.hex()}: ip {ip:x} rsp {rsp:x} (expected rsp {wanted_rsp:x})"
            )
    assert not wrong


def test_sandbox_and_tracer_agree(oracle):
    """Two mechanisms, one processor."""
    golden = applicable()
    sandbox, tracer = (judged(oracle, golden, Hint.EXACT | hint) for hint in (Hint(0), Hint.PTRACE))
    for case, one, other in zip(golden, sandbox, tracer, strict=True):
        assert one["length"] == other["length"], f"{case.place}: {case.code.hex()}"
        assert (one["outcome"] == Outcome.UD) == (other["outcome"] == Outcome.UD), (
            f"{case.place}: {case.code.hex()}"
        )


def test_data_is_plentiful_and_explained():
    golden = cases()
    assert len(golden) >= 600
    assert len({(case.bits, case.code, case.vendors) for case in golden}) == len(golden)
    assert all(case.why for case in golden)
