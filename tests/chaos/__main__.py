"""The long version: python -m tests.chaos --seconds 600 --seed 7; `make chaos`."""

import argparse
import time

from tests.chaos.campaign import campaign

ROUND = 40.0


def main() -> None:
    """Rounds with rising seeds until the time is up; a difference ends it, with the seed that repeats it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 1_000_000)
    parser.add_argument("--only", help="one program")
    arguments = parser.parse_args()
    until, seed, operations = time.monotonic() + arguments.seconds, arguments.seed, 0
    while operations == 0 or time.monotonic() < until:
        done = campaign(min(ROUND, arguments.seconds), seed, scale=2.0, only=arguments.only)
        operations += done.total()
        print(f"seed {seed}: {done.total()} operations: {dict(done)}", flush=True)
        seed += 1
    print(f"{operations} operations, no difference")


if __name__ == "__main__":
    main()
