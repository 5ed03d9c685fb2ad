"""The oracle survives what it judges, and its two mechanisms agree."""

import errno
import os

import numpy as np
import pytest

from tests.differential.spaces import random_codes
from tests.oracle import EXECUTE_IN, JUDGE_IN, Hint, Oracle, Outcome
from tests.oracle.oracle import START_GPR, pack

EXIT_GROUP = 231
RAX, RBX = 0, 3


def judge_records(*codes: str, **fields: int):
    records = np.zeros(len(codes), JUDGE_IN)
    records["code"], records["bits"] = [pack(bytes.fromhex(code)) for code in codes], 64
    for name, value in fields.items():
        records[name] = value
    return records


def execute_records(*codes: str):
    records = np.zeros(len(codes), EXECUTE_IN)
    records["code"] = [pack(bytes.fromhex(code)) for code in codes]
    records["length"] = [len(bytes.fromhex(code)) for code in codes]
    records["bits"], records["gpr"] = 64, START_GPR
    return records


def test_wrong_claims_are_put_right():
    with Oracle() as oracle:
        for claim in (1, 2, 3, 4, 9, 15):
            for hint in (0, Hint.NEXT):
                result = oracle.judge(judge_records("4889c3909090", claim=claim, hint=hint))[0]
                assert (result["length"], result["outcome"]) == (3, Outcome.EXECUTED)


def test_right_claim_takes_two_runs():
    with Oracle() as oracle:
        assert oracle.judge(judge_records("4889c3", claim=3, hint=Hint.NEXT))[0]["runs"] == 2


def test_lower_bound_does_not_run_the_instruction():
    with Oracle() as oracle:
        result = oracle.judge(judge_records("ebfe", claim=2, hint=Hint.LOWER_BOUND))[0]
        assert (result["length"], result["outcome"]) == (2, Outcome.NOT_RUN)


def test_hanging_instruction_is_reported_and_the_rest_judged():
    with Oracle(patience=0.3) as oracle:
        # A jump to itself, claimed to go on: without the trap flag it never ends.
        results = oracle.judge(judge_records("ebfe", "90", claim=[2, 1], hint=Hint.NEXT))
        assert results["outcome"].tolist() == [Outcome.HUNG, Outcome.EXECUTED]


def test_death_is_reported_and_the_rest_executed():
    records = execute_records("0f05", "90")
    records["gpr"][0, RAX] = EXIT_GROUP
    with Oracle() as oracle:
        assert oracle.execute(records)["outcome"].tolist() == [Outcome.DIED, Outcome.EXECUTED]


@pytest.mark.parametrize(
    "code",
    [
        "f3480faed0",
        "f3480faed8",
        "8ee0",
        "8ee8",
        "8ed0",
        "9d",
        "fd",
        "cf",
        "48cf",
        "cb",
        "0fae28",
        "d9e8",
        "0f0100",
        "cd80",
        "cc",
    ],
)
def test_sandbox_keeps_working_after(code):
    """Segment bases, segments, flags, far transfers, vector state, emulated and trapping instructions."""
    with Oracle() as oracle:
        results = oracle.judge(judge_records(code, "90", hint=Hint.EXACT))
        assert results["outcome"][0] < Outcome.NOT_RUN
        assert (results["outcome"][1], results["length"][1]) == (Outcome.EXECUTED, 1)


def test_system_calls_are_denied():
    records = execute_records("0f05", "cd80")
    records["gpr"][:, RAX] = [39, 20]  # getpid
    with Oracle() as oracle:
        results = oracle.execute(records)
    assert (results["gpr"][:, RAX].astype(np.int64).astype(np.int32) == -errno.ENOSYS).all()


def test_execute_reports_registers_flags_and_memory():
    records = execute_records("4801d8", "48891e")  # add rax, rbx; mov [rsi], rbx
    records["gpr"][:, RAX], records["gpr"][:, RBX] = 2**64 - 1, 1
    with Oracle() as oracle:
        added, stored = oracle.execute(records)
        (idle,) = oracle.execute(execute_records("90"))
    assert added["gpr"][RAX] == 0
    assert added["eflags"] & 0x41 == 0x41  # ZF and CF
    assert added["moved"] == 3
    assert added["memory"] == idle["memory"] != stored["memory"]


def test_sandbox_and_tracer_agree_on_random_bytes():
    codes = random_codes(np.random.default_rng(1), 4000)
    records = np.zeros(len(codes), JUDGE_IN)
    records["code"] = codes
    with Oracle() as oracle:
        for bits in (64, 32):
            records["bits"] = bits
            records["hint"] = 0
            sandbox = oracle.judge(records)
            records["hint"] = Hint.PTRACE
            tracer = oracle.judge(records)
            assert (sandbox["length"] == tracer["length"]).all()
            assert ((sandbox["outcome"] == Outcome.UD) == (tracer["outcome"] == Outcome.UD)).all()


def test_nothing_is_left_behind():
    with Oracle() as oracle:
        oracle.judge(judge_records("90"))
        oracle.judge(judge_records("90", hint=Hint.PTRACE))
        pid = oracle.process.pid
        with open(f"/proc/{pid}/task/{pid}/children") as children:
            started = [int(word) for word in children.read().split()]
        assert len(started) == 2
    for child in started:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def test_records_of_another_shape_are_refused():
    with Oracle() as oracle, pytest.raises(TypeError, match="expected"):
        oracle.judge(np.zeros(1, EXECUTE_IN))
