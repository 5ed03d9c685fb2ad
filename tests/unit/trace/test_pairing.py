"""Pairing of entries and exits, against a model; histograms against sorted lists."""

import random
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uprobe_core.abi import RECORD_UNREAD, predicate_code
from uprobe_core.trace.pairing import BUCKETS, Pairing, bucket_of, bucket_start
from uprobe_core.x86.hitplan import HitPlan
from uprobes.histogram import Histogram

RSP, RDI = 4, 7
ENTER_F, LEAVE_F, ENTER_G, LEAVE_G, OTHER = range(5)
ROLES = array("I", [0, 1, 2, 3, 0xFFFFFFFF])


def make_pairing(fields=((0, RSP),), ops=()):
    return Pairing(HitPlan(shift=16, order=4, fields=fields, ops=ops), ROLES, 2)


def feed(pairing, rows, fields=1):
    """Rows are (time, site, frame, *fields)."""
    columns = [array("Q", [row[0] for row in rows]), array("I", [1] * len(rows)), array("I", [row[1] for row in rows])]
    values = array("Q", [row[2 + field] for field in range(fields) for row in rows])
    pairing.feed(*columns, values, len(rows))


def test_recursion_and_other_frames():
    pairing = make_pairing()
    feed(pairing, [(10, ENTER_F, 900), (20, ENTER_F, 800), (25, ENTER_G, 700), (26, LEAVE_G, 700)])
    feed(pairing, [(30, LEAVE_F, 800), (100, LEAVE_F, 900), (101, OTHER, 900), (102, 77, 900)])
    assert pairing.times(0)[:4] == (2, 100, 10, 90)
    assert pairing.times(1)[:4] == (1, 1, 1, 1)
    assert pairing.open == pairing.unpaired == pairing.abandoned == 0


def test_frame_that_is_used_again_forgets_the_call_that_was_jumped_out_of():
    pairing = make_pairing()
    feed(pairing, [(10, ENTER_F, 900), (5000, ENTER_F, 900), (5007, LEAVE_F, 900)])
    assert pairing.times(0)[:4] == (1, 7, 7, 7)
    assert pairing.abandoned == 1


def test_exits_without_their_own_entry_are_no_times():
    pairing = make_pairing()
    feed(pairing, [(10, LEAVE_F, 900), (11, ENTER_F, 800), (12, LEAVE_G, 800), (13, ENTER_F, 0)])
    assert pairing.times(0)[0] == 0
    assert pairing.unpaired == 2
    pairing.forget()
    feed(pairing, [(14, LEAVE_F, 800)])
    assert (pairing.times(0)[0], pairing.unpaired, pairing.open) == (0, 3, 0)


def test_entry_that_does_not_count_still_takes_its_frame():
    """Without that, the exit of a call that was filtered out would end a call that an exception had left."""
    ops = [(predicate_code.OP_REGISTER, RDI), (predicate_code.OP_TEST, 0)]
    pairing = make_pairing(fields=((0, RSP), (0, RDI)), ops=ops)
    feed(pairing, [(10, ENTER_F, 900, 1), (9000, ENTER_F, 900, 0), (9005, LEAVE_F, 900, 1)], fields=2)
    assert pairing.times(0)[0] == 0
    feed(pairing, [(9100, ENTER_F | RECORD_UNREAD, 900, 1), (9103, LEAVE_F, 900, 0)], fields=2)
    assert pairing.times(0)[:2] == (1, 3)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 3000))
def test_pairs_as_a_dictionary_would(seed, frames):
    """Random calls over many frames, so that the table grows and entries are moved when others are taken out."""
    rng = random.Random(seed)  # noqa: S311
    pairing = make_pairing()
    opened, times, unpaired, abandoned, rows = {}, [[], []], 0, 0, []
    for now in range(1, 4000):
        frame = 8 * rng.randrange(1, frames + 1)
        function, leaves = rng.getrandbits(1), rng.getrandbits(1)
        rows.append((now, 2 * function + leaves, frame))
        if not leaves:
            abandoned += frame in opened
            opened[frame] = (function, now)
        elif opened.get(frame, (None,))[0] == function:
            times[function].append(now - opened.pop(frame)[1])
        else:
            unpaired += 1
    feed(pairing, rows)
    for function in range(2):
        count, total, _, _, buckets = pairing.times(function)
        assert (count, total) == (len(times[function]), sum(times[function]))
        assert sum(buckets.values()) == count
    assert (pairing.unpaired, pairing.abandoned, pairing.open) == (unpaired, abandoned, len(opened))


def test_what_does_not_fit_is_refused():
    pairing = make_pairing()
    with pytest.raises(ValueError, match="columns"):
        pairing.feed(array("Q", [1]), array("I", [1]), array("I", [1]), array("Q", [1]), 2)
    with pytest.raises(ValueError, match="function 1 of 1"):
        Pairing(HitPlan(shift=16, order=4, fields=[(0, RSP)]), ROLES, 1)
    with pytest.raises(IndexError):
        pairing.times(2)


@given(st.integers(0, (1 << 64) - 1))
def test_buckets_hold_their_values_and_are_narrow(value):
    bucket = bucket_of(value)
    end = bucket_start(bucket + 1) if bucket + 1 < BUCKETS else 1 << 64
    assert 0 <= bucket < BUCKETS
    assert bucket_start(bucket) <= value < end
    assert end - bucket_start(bucket) <= max(1, value / 128)


@settings(deadline=None)
@given(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=200), st.floats(0, 100))
def test_percentiles_are_right_to_the_width_of_a_bucket(values, percent):
    histogram, other = Histogram(), Histogram()
    for index, value in enumerate(values):
        (histogram if index % 2 else other).add(value)
    both = histogram + other
    assert (both.count, both.sum, both.least, both.most) == (len(values), sum(values), min(values), max(values))
    exact = sorted(values)[max(1, -(-len(values) * percent // 100).__int__()) - 1]
    assert exact <= both.percentile(percent) <= max(exact, exact * (1 + 1 / 128))
    assert sum(count for _, _, count in both.octaves()) == len(values)
    assert all(start <= end for start, end, _ in both.octaves())


def test_empty_histogram():
    histogram = Histogram()
    assert (histogram.percentile(50), histogram.mean, histogram.octaves()) == (0, 0.0, [])
    with pytest.raises(ValueError, match="percentile 101"):
        histogram.percentile(101)
    assert "0 times" in repr(histogram)
