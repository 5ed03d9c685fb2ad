"""Our decoder against the processor: two million sequences from all spaces, the same ones every time."""

import pytest

from tests.differential import verdict
from tests.differential.seeds import seeds
from tests.differential.spaces import campaign
from tests.oracle import Oracle

BATCH = 16384
PER_SEED = 420_000
SEEDS = range(5)


@pytest.mark.parametrize("seed", SEEDS)
def test_lengths_and_refusals_are_the_processors(seed):
    tally, names = verdict.Tally(), verdict.Names()
    with Oracle() as oracle:
        for space, bits, codes in campaign(seed, PER_SEED, seeds(), BATCH):
            verdict.judge(oracle, space, bits, codes, tally, names)
    assert tally.total >= PER_SEED
    assert tally.executed > tally.total / 20
    assert not tally.differences, "\n".join(map(str, tally.differences))
