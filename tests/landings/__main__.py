"""Judge the windows by real programs for as long as one likes.

    PYTHONPATH=python:. python -m tests.landings --steps 20000000 [COMMAND …]

Without a command: some programs of every kind. Exit status: 0 where no control ever came into a window's middle.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.landings import Verdict, real_programs, watch


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000_000, help="instructions of each process")
    parser.add_argument("command", nargs="*")
    options = parser.parse_args()
    total = Verdict()
    with tempfile.TemporaryDirectory() as directory:
        programs = [("", options.command)] if options.command else real_programs(Path(directory))
        for name, command in programs:
            found = watch(command, options.steps)
            total.add(found)
            print(
                f"{name or command[0]:10} {found.transfers:9,} transfers, {found.landings:8,} landings,"
                f" {found.unmarked} unmarked, {len(found.interior)} interior,"
                f" {len(found.inside)} inside an instruction, {len(found.modules)} modules",
                flush=True,
            )
            for fault in [*found.interior, *found.inside][:20]:
                print(f"  {fault}")
    return 1 if total.interior or total.inside else 0


if __name__ == "__main__":
    sys.exit(main())
