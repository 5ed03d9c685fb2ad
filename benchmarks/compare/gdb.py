"""A breakpoint of gdb: usage: python -m benchmarks.compare.gdb PID ADDRESS.

Counted by gdb itself and never shown, the cheapest that it can do. Prints a line when the breakpoint is in, and becomes
gdb.
"""

import os
import sys

ENOUGH = 1_000_000_000


def main(pid: int, address: int) -> None:
    """Never returns: gdb runs until the process ends, or it is killed."""
    commands = [f"break *{address:#x}", f"ignore 1 {ENOUGH}", "echo in\\n", "continue"]
    words = ["gdb", "-q", "-nx", "-batch", "-p", str(pid)]
    words += [word for command in commands for word in ("-ex", command)]
    os.execvp("gdb", words)  # noqa: S606


if __name__ == "__main__":
    main(*(int(word, 0) for word in sys.argv[1:3]))
