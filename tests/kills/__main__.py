"""`python -m tests.kills --kills 1000 --mode trap`: the whole campaign."""

import argparse
import sys
import time

from tests.kills.campaign import Campaign
from tests.victim import VictimBuilder


def main() -> int:
    """Run it, and say what became of the targets."""
    parser = argparse.ArgumentParser(prog="tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--mode", action="append", choices=["trap", "step"], help="default: trap, then step")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    builder = VictimBuilder()
    failed = False
    try:
        for mode in options.mode or ["trap", "step"]:
            start = time.monotonic()
            outcome = Campaign(builder, mode, options.seed).run(options.kills)
            seconds = time.monotonic() - start
            lost = f"{len(outcome.lost)} lost, {outcome.rounds:,} rounds"
            print(f"{mode}: {outcome.kills} kills in {seconds:.0f} s, {lost}", flush=True)
            if outcome.by_kind["recovered later"]:
                print(f"  {outcome.by_kind['recovered later']} were put right by recover alone", flush=True)
            for line in outcome.lost:
                print(f"  {line}", flush=True)
            failed = failed or bool(outcome.lost)
    finally:
        builder.close()
    return failed


if __name__ == "__main__":
    sys.exit(main())
