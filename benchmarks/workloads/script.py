"""A fixed script of real work, for an interpreter that is watched: each line of input has it done once more.

It answers with the seconds that this took, by its own clock, and what came out.
"""

import collections
import hashlib
import json
import re
import sys
import time


class Point:
    """Something to make many of."""

    def __init__(self, value: int) -> None:
        self.value = value

    def next(self) -> int:
        """A method to call."""
        return self.value + 1


def work() -> str:
    """Objects, text, sorting, dictionaries, calls."""
    rows = [{"id": i, "name": f"n{i % 97}", "values": [i * j % 31 for j in range(8)]} for i in range(4000)]
    text = json.dumps(rows)
    words = collections.Counter(re.findall(r"[a-z]+\d+", text))
    total = 0
    for row in sorted(json.loads(text), key=lambda row: (row["name"], -row["id"])):
        total = (total * 31 + sum(row["values"]) + len(row["name"])) % 1_000_003
    points = sum(Point(i).next() % 7 for i in range(60_000))
    return f"{total} {len(words)} {points} {hashlib.sha256(text.encode()).hexdigest()}"


if __name__ == "__main__":
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        outcome = work()
        print(time.perf_counter() - start, outcome, flush=True)
