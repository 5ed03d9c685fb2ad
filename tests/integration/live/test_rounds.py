"""Attaching and leaving, over and over: nothing is left behind, neither here nor there."""

import gc
import os
from pathlib import Path

import uprobes

ROUNDS = 200


def memory_pages(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])


def what_is_there(pid: int) -> tuple[int, int, int]:
    """Descriptors of ours, our children, and mappings of the target."""
    gc.collect()  # targets and what they know refer to each other
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    mappings = Path(f"/proc/{pid}/maps").read_text().count("\n")
    return len(os.listdir("/proc/self/fd")), len(children), mappings


def test_rounds_leave_nothing_behind(victim):
    rounds = int(os.environ.get("UPROBES_ROUNDS", ROUNDS))
    hot = victim("hot")

    def visit() -> None:
        with uprobes.attach(hot.pid) as target:
            target.probe("libc:malloc")

    for _ in range(20):
        visit()  # what is made once, is made now
    before, pages = what_is_there(hot.pid), memory_pages(os.getpid())
    for _ in range(rounds):
        visit()
    assert what_is_there(hot.pid) == before
    # Less than a page in ten rounds: Python's own memory breathes.
    assert memory_pages(os.getpid()) - pages < max(512, rounds // 10)
