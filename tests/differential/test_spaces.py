"""Spaces can be walked, sampled and repeated."""

import itertools

import numpy as np

from tests.differential.seeds import seeds
from tests.differential.spaces import SPACES, Axis, Space, campaign

SMALL = Space(
    "small", 64, (Axis([b"", b"\x66"]), Axis([b"\x0f\xa2", b"\x90", b"\xcc"]), Axis([b"\x01", b"\x02"]))
)


def rows(codes):
    return [code.tobytes().rstrip(b"\0") for code in codes]


def test_walk_meets_every_product_once():
    expected = {
        b"".join(parts)
        for parts in itertools.product([b"", b"\x66"], [b"\x0f\xa2", b"\x90", b"\xcc"], [b"\x01", b"\x02"])
    }
    walked = rows(SMALL.walk(0, 100))
    assert len(walked) == SMALL.size == len(expected)
    assert set(walked) == expected


def test_walk_in_pieces_is_the_walk():
    pieces = [row for first in range(0, SMALL.size, 5) for row in rows(SMALL.walk(first, 5))]
    assert pieces == rows(SMALL.walk(0, SMALL.size))


def test_tail_turns_slowest():
    assert {row[-1] for row in rows(SMALL.walk(0, SMALL.size // 2))} == {1}


def test_sample_stays_in_the_space():
    drawn = rows(SMALL.sample(np.random.default_rng(1), 200))
    assert set(drawn) == set(rows(SMALL.walk(0, SMALL.size)))


def test_same_seed_same_sequences():
    first, second = (list(campaign(3, 1, seeds(), 64)) for _ in range(2))
    assert [name for name, _, _ in first] == [name for name, _, _ in second]
    assert all((one[2] == other[2]).all() for one, other in zip(first, second, strict=True))


def test_campaign_meets_every_space_in_both_modes():
    met = {name for name, _, _ in campaign(0, 1, seeds(), 64)}
    assert met >= {space.name for space in SPACES} | {"random-64", "random-32", "mutated-64", "mutated-32"}
