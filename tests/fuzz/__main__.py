"""Judge the decoder by the processor for as long as one likes.

    PYTHONPATH=python:. python -m tests.fuzz --seed 1 --seconds 600 --found build/found.txt

Every round draws from all spaces with a seed of its own, counting up from --seed, and prints one line: to
go on, start from the seed after the last one printed; to see a difference again, start from its seed. --walk
takes one space from --first on, sequence by sequence, instead of drawing. Differences are appended to --found
in the form of tests/data.
Exit status: 0 when there is none, 1 when there are.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.differential import verdict
from tests.differential.seeds import seeds
from tests.differential.spaces import SPACES, Codes, campaign
from tests.oracle import Oracle

BATCH = 65536
ROUND = 16 * BATCH


def drawn(first_seed: int) -> Iterator[tuple[str, Iterator[tuple[str, int, Codes]]]]:
    """Rounds of drawn sequences, without end."""
    for seed in itertools.count(first_seed):
        yield f"seed {seed}", campaign(seed, ROUND, seeds(), BATCH)


def walked(name: str, first: int) -> Iterator[tuple[str, Iterator[tuple[str, int, Codes]]]]:
    """Rounds of consecutive sequences of one space, to its end."""
    space = next(space for space in SPACES if space.name == name)
    for index in range(first, space.size, ROUND):
        places = range(index, min(index + ROUND, space.size), BATCH)
        yield (
            f"{name} {index} of {space.size}",
            ((name, space.bits, space.walk(place, BATCH)) for place in places),
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description="judge the decoder by the processor"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--seconds", type=float, default=60, help="no round starts after this time")
    parser.add_argument(
        "--walk", choices=[space.name for space in SPACES], help="go through one space in order"
    )
    parser.add_argument("--first", type=int, default=0, help="with --walk: the sequence to start from")
    parser.add_argument(
        "--found", type=Path, default=Path("build/found.txt"), help="where differences are appended"
    )
    return parser.parse_args()


def main() -> int:
    given = arguments()
    tally, names = verdict.Tally(), verdict.Names()
    end = time.monotonic() + given.seconds
    rounds = walked(given.walk, given.first) if given.walk else drawn(given.seed)
    given.found.parent.mkdir(parents=True, exist_ok=True)
    with Oracle() as oracle, given.found.open("a") as found:
        for label, batches in itertools.takewhile(lambda _: time.monotonic() < end, rounds):
            known = len(tally.differences)
            for space, bits, codes in batches:
                verdict.judge(oracle, space, bits, codes, tally, names)
            for difference in tally.differences[known:]:
                print(difference, file=found, flush=True)
            counts = f"{tally.total} sequences, {tally.executed} executed, {tally.kinds.total()} differences"
            print(f"{label}: {counts}", flush=True)
    for reason, count in tally.excused.most_common():
        print(f"{count:8} accepted though #UD: {reason}")
    for kind, count in tally.kinds.most_common():
        print(f"{count:8} {kind}")
    return 1 if tally.kinds else 0


if __name__ == "__main__":
    sys.exit(main())
