import pytest

from uprobe_core.abi import PLAN_ONE_STOP, refusal
from uprobe_core.x86.survey import survey

FIX_IP = 0x01


def test_counts_by_plan_byte_and_refusal():
    code = bytes.fromhex("55 5d 90 cc 06 c3")
    kinds, refused = survey(code, 0x1000)
    assert kinds == {PLAN_ONE_STOP: 3, PLAN_ONE_STOP | 1: 1}
    assert refused == {refusal.REFUSAL_TRAPS_ITSELF: 1, refusal.REFUSAL_UNDECODABLE: 1}


def test_mode_and_reach_are_those_of_the_plan():
    code = bytes.fromhex("48 03 05 10 00 00 00")
    assert survey(code, 0x1000, mode="step") == ({FIX_IP: 1}, {})
    assert survey(code, 0x1000, mode="trap", reach="any") == ({}, {refusal.REFUSAL_NO_ROOM: 1})


@pytest.mark.parametrize("code", [b"", bytearray(), memoryview(b"")])
def test_no_code(code):
    assert survey(bytes(code), 0) == ({}, {})
