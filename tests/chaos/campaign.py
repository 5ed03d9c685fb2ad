"""One run over the programs, and what is compared at the end."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from tests.chaos.mayhem import Mayhem
from tests.chaos.programs import LIBC, Program, programs, redis, work_redis
from tests.process import executable_text

DEADLINE = 300.0


class DifferenceError(AssertionError):
    """A program computed something else, or its text is not what it was."""


def disturb(program: Program, seconds: float, seed: int) -> Counter[str]:
    """Run the program twice, once alone; the results must be the same."""
    with tempfile.TemporaryDirectory(prefix="uprobes-chaos-") as directory:
        alone, probed = Path(directory) / "alone", Path(directory) / "probed"
        expected = program.judge(program.start(alone).wait(DEADLINE), alone.read_bytes())
        process = program.start(probed)
        wait_mapped(process.pid)
        before = file_text(process.pid)
        mayhem = Mayhem(process.pid, program.globs, seed)
        try:
            mayhem.run(seconds)
            if process.poll() is None:
                compare_text(program.name, before, file_text(process.pid))
            found = program.judge(process.wait(DEADLINE), probed.read_bytes())
        finally:
            process.kill()
            process.wait()
        if found != expected:
            raise DifferenceError(f"{program.name}, seed {seed}: {str(found)[-2000:]} and not {str(expected)[-2000:]}")
        return mayhem.done


def disturb_redis(seconds: float, seed: int) -> Counter[str]:
    """A server under load: every answer is looked at."""
    wrong: list[str] = []
    with redis() as (pid, path):
        before = file_text(pid)
        client = threading.Thread(target=lambda: wrong.append(work_redis(path)))
        client.start()
        globs = (*LIBC, "redis-server:*Command", "redis-server:dict*", "redis-server:sds*", "libc:epoll*")
        mayhem = Mayhem(pid, globs, seed)
        mayhem.run(seconds)
        compare_text("redis", before, file_text(pid))
        client.join(DEADLINE)
    if wrong != [""]:
        raise DifferenceError(f"redis, seed {seed}: {wrong}")
    return mayhem.done


def wait_mapped(pid: int) -> None:
    """Until the program has its libraries and does its work."""
    time.sleep(0.3)
    assert Path(f"/proc/{pid}/maps").read_text(), f"process {pid} ended at once"


def file_text(pid: int) -> dict[tuple[int, int, str], str]:
    """As executable_text; nothing for a process that has ended."""
    try:
        return executable_text(pid)
    except (OSError, ProcessLookupError):
        return {}


def compare_text(name: str, before: dict, after: dict) -> None:
    """Libraries may have come and gone; what is there still is as it was."""
    changed = [key for key in before.keys() & after.keys() if before[key] != after[key]]
    if changed:
        raise DifferenceError(f"{name}: text differs in {changed}")


def campaign(seconds: float, seed: int, scale: float = 1.0, only: str | None = None) -> Counter[str]:
    """All programs, the time shared among them; how many operations of each kind there were."""
    done: Counter[str] = Counter()
    subjects = [program for program in programs(scale) if only in (None, program.name)]
    share = seconds / (len(subjects) + 1)
    for number, program in enumerate(subjects):
        done += disturb(program, share, seed * 1000 + number)
    if only in (None, "redis"):
        done += disturb_redis(share, seed * 1000 + 999)
    return done
