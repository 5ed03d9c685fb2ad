"""Many addresses at once: the same answers as one at a time."""

import random
from array import array
from itertools import accumulate

import pytest

from uprobe_core.x86.boundaries import BEGINS, MAY_ABORT, find_starts, mark_boundaries
from uprobes.insn import decode_all

# push rbp; mov rbp, rsp; call +5; (no instruction); nop; ret
CODE = bytes.fromhex("55 48 89 e5 e8 05 00 00 00 06 90 c3")
BASE = 0x7F00_0000_1000


def starts_of(spans, vaddrs, bias=0):
    spans = sorted(spans)
    found = array("Q", bytes(8 * len(vaddrs)))
    starts, ends = (array("Q", column) for column in zip(*spans, strict=True)) if spans else (array("Q"), array("Q"))
    known = find_starts(array("Q", vaddrs), bias, starts, ends, array("Q", accumulate(ends, max)), found)
    assert known == sum(1 for each in found if each)
    return list(found)


def reference(spans, vaddr):
    """The innermost: of the ranges that cover, the one that starts last."""
    return max((start for start, end in spans if start <= vaddr < end), default=0)


def test_ranges_with_gaps_and_bias():
    assert starts_of([(16, 32), (32, 40), (64, 72)], [15, 16, 31, 32, 39, 40, 70, 72]) == [0, 16, 16, 32, 32, 0, 64, 0]
    assert starts_of([(16, 32)], [BASE + 15, BASE + 20], BASE) == [0, BASE + 16]
    assert starts_of([], [1, 2]) == [0, 0]


@pytest.mark.parametrize("seed", range(20))
def test_nested_ranges(seed):
    rng = random.Random(seed)  # noqa: S311
    spans = {(start, start + rng.randrange(1, 60)) for start in rng.sample(range(1, 200), 25)}
    vaddrs = sorted(rng.sample(range(270), 120))
    assert starts_of(spans, vaddrs) == [reference(spans, vaddr) for vaddr in vaddrs]


def marks_of(vaddrs, starts, code=CODE):
    marks = bytearray(len(vaddrs))
    known = mark_boundaries(code, BASE, array("Q", vaddrs), array("Q", starts), marks)
    assert known == sum(marks)
    return list(marks)


def test_every_byte_of_a_function():
    vaddrs = range(BASE, BASE + len(CODE))
    begins = set(decode_all(CODE, BASE).addresses)
    assert marks_of(vaddrs, [BASE] * len(CODE)) == [vaddr in begins for vaddr in vaddrs]


def test_each_address_from_its_own_start():
    assert marks_of([BASE, BASE + 2, BASE + 4], [BASE, BASE + 2, BASE + 1]) == [1, 1, 1]
    assert marks_of([BASE + 4, BASE + 5], [BASE + 2, BASE]) == [1, 0]


def test_without_a_start_or_outside_the_code():
    assert marks_of([BASE, BASE + len(CODE), BASE + 500], [0, BASE, BASE]) == [0, 0, 0]
    assert marks_of([BASE + 3], [BASE - 16]) == [0]


def test_instruction_that_the_end_cuts():
    assert marks_of([BASE + 4, BASE + 5], [BASE + 4, BASE + 4], CODE[:7]) == [1, 1]


def test_what_may_be_in_a_transaction():
    # nop; xbegin +0; nop; xend; nop
    code = bytes.fromhex("90 c7 f8 00 00 00 00 90 0f 01 d5 90")
    vaddrs = [BASE, BASE + 1, BASE + 7, BASE + 8, BASE + 11]
    marks = bytearray(5)
    assert mark_boundaries(code, BASE, array("Q", vaddrs), array("Q", [BASE] * 5), marks) == 3
    assert list(marks) == [BEGINS, BEGINS, MAY_ABORT, MAY_ABORT, BEGINS]


def test_columns_of_different_length():
    with pytest.raises(ValueError, match="2 starts"):
        find_starts(array("Q", [1]), 0, array("Q", [1, 2]), array("Q", [1]), array("Q", [1]), array("Q", [0]))
    with pytest.raises(ValueError, match="1 addresses"):
        mark_boundaries(CODE, BASE, array("Q", [1]), array("Q"), bytearray(1))
