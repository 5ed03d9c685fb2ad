"""Let chaos loose on every program in turn, for as long as one likes.

    PYTHONPATH=python:. python -m tests.chaos --seed 1 --seconds 600 --only redis

A round takes each program once, with a seed of its own, counting up from --seed, and prints one line a program: to see
a failure again, start from its seed with --only its program.
Exit status: 0 when all was as if alone, 1 when not.
"""

import argparse
import itertools
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random

from tests.chaos.operations import Chaos
from tests.chaos.programs import Program, programs

VISIT = 20.0  # seconds that one program is under chaos at most, in one round


def run_one(program: Program, seed: int, seconds: float) -> Chaos:
    """One program from start to end. AssertionError where anything is not as if alone."""
    chaos = Chaos(program, Random(f"{program.name} {seed}"))  # noqa: S311 (a seeded one is what is wanted)
    with tempfile.TemporaryDirectory(prefix="uprobes-chaos-", ignore_cleanup_errors=True) as folder:
        try:
            program.start(Path(folder))
            chaos.run(seconds)
            program.finish()
        finally:
            program.stop()
    return chaos


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="random operations on real programs")
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--seconds", type=float, default=300, help="no program is started after this time")
    parser.add_argument("--only", help="the name of one program")
    wanted = parser.parse_args()
    end = time.monotonic() + wanted.seconds
    failures = 0
    for seed in itertools.count(wanted.seed):
        for program in programs(VISIT / 2):
            if time.monotonic() > end:
                return 1 if failures else 0
            if wanted.only not in {None, program.name}:
                continue
            try:
                chaos = run_one(program, seed, VISIT)
            except BaseException as error:
                failures += 1
                print(f"seed {seed} {program.name}: FAILED", flush=True)
                traceback.print_exception(error, file=sys.stdout)
                if not isinstance(error, Exception):
                    raise
            else:
                done = ", ".join(f"{kind} {count}" for kind, count in sorted(chaos.done.items()))
                print(f"seed {seed} {program.name}: {chaos.hits:,} hits; {done}", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
