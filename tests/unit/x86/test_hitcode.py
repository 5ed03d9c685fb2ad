"""Hit code, executed here: exact under storms, and invisible to the code around it."""

import os
import random

import pytest

from tests.native.harness import (
    MASK, NAMES, SCRATCH, STATUS_FLAGS, Area, Board, address_of, rseq_offset, run, storm,
)
from uprobe_core.x86.hitplan import HitPlan

needs_rseq = pytest.mark.skipif(rseq_offset() is None, reason="this C library registers no restartable sequences")
CPUS = len(os.sched_getaffinity(0))


@pytest.fixture
def area():
    return Area()


@pytest.mark.parametrize("rseq", [pytest.param(True, marks=needs_rseq), False], ids=["rseq", "lock"])
@pytest.mark.parametrize("dead", [SCRATCH, 0], ids=["dead", "live"])
def test_counts_are_exact_in_threads_that_move_and_are_signalled(area, rseq, dead):
    board = Board(12)
    area.open(board)
    place = {} if rseq else {"rseq_offset": None}
    code = area.function(HitPlan(shift=12, offset=40), dead=dead, flags_dead=bool(dead), **place)
    total, _, _ = storm(code, 4, 300_000, hops=CPUS, signals=True)
    assert total > 1_200_000
    assert board.sum(40) == total
