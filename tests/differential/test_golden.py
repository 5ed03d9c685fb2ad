"""The golden instructions against our decoder."""

import numpy as np
import pytest

from tests.differential import ours
from tests.golden import Case, cases
from tests.oracle.oracle import pack

insn = pytest.importorskip("uprobes.insn")


@pytest.mark.parametrize("vendor", ["amd", "intel"])
def test_decode_ends_where_the_data_says(vendor):
    wrong = []
    for case in (case for case in cases() if vendor in case.vendors):
        try:
            length = insn.decode(case.code, bits=case.bits, vendor=vendor).length
        except insn.DecodeError:
            length = None
        if length != case.length:
            wrong.append(
                f"{case.place}: {case.bits} {case.code.hex()}: {case.length} expected, decoded {length}"
            )
    assert not wrong, "\n".join(wrong)


def complete(case: Case) -> bytes:
    assert case.length is not None
    return case.code[: case.length]


def test_no_instruction_decodes_from_fewer_bytes():
    for case in (case for case in cases() if case.length):
        for size in range(case.length):
            with pytest.raises(insn.DecodeError):
                insn.decode(case.code[:size], bits=case.bits, vendor=case.vendors[0])


def test_no_instruction_needs_more_bytes():
    for case in (case for case in cases() if case.length):
        alone = insn.decode(complete(case), bits=case.bits, vendor=case.vendors[0])
        assert (alone.length, alone.bytes) == (case.length, complete(case)), case.place


def test_targets_are_where_the_processor_went():
    """Direct branches that were taken, and those that were not: the data has where ip went."""
    direct = {1, 2, 3, 4}  # FLOW_JMP, FLOW_JCC, FLOW_LOOP, FLOW_CALL
    checked = 0
    for case in (
        case for case in cases() if case.length and case.ip is not None and case.outcome == "executes"
    ):
        code = np.array([pack(case.code)])
        decoded = ours.decode(
            code, np.array([case.bits], np.uint8), vendor_option(case), ip=0x10001000 - case.length
        )
        if decoded.status[0] == 0 and decoded.insn["flow"][0] in direct:
            assert int(decoded.insn["target"][0]) == case.ip, f"{case.place}: {case.code.hex()}"
            checked += 1
    assert checked >= 10


def vendor_option(case: Case) -> int:
    extension = ours.extension()
    return int(extension.AMD if case.vendors[0] == "amd" else extension.INTEL)
