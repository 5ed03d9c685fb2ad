"""Mode jump in whole programs: a small function in a hot loop, and every function of an interpreter at once.

What is measured without a probe stands beside it, taken in turns.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import uprobes
from benchmarks.cases.bench_hit import call_ns
from benchmarks.cases.conftest import ROUNDS

CALLS = 5_000_000
SCRIPT = Path(__file__).parents[1] / "workloads" / "script.py"
TURNS = 9


class Interpreter:
    """A Python that does the script's work when it is told."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "ready\n"

    def work(self) -> tuple[float, str]:
        """Seconds, and what came out."""
        self.process.stdin.write("once\n")
        self.process.stdin.flush()
        seconds, _, outcome = self.process.stdout.readline().partition(" ")
        return float(seconds), outcome

    def close(self) -> None:
        """It ends with its input."""
        self.process.communicate()


@pytest.fixture
def interpreter() -> Iterator[Interpreter]:
    """One that has warmed up."""
    started = Interpreter()
    started.work()
    yield started
    started.close()


def every_function(target: uprobes.Target) -> str:
    """Of the file that has the interpreter's code."""
    largest = max(target.modules, key=lambda module: "python" in module.name and len(module.binary.functions.entries))
    return f"{largest.path}:*"


def bench_jump_count(benchmark, victim, cpu):
    """What a count adds to a call: limit 3 ns. The floor is the bare call."""
    hot = victim("hot")
    bare: list[float] = []
    added: list[float] = []
    with uprobes.attach(hot.pid) as target:
        probe = target.probe("hot:hot", mode="jump")

        def turn() -> None:
            probe.disable()
            bare.append(call_ns(hot, CALLS))
            probe.enable()
            added.append(call_ns(hot, CALLS) - bare[-1])

        benchmark.pedantic(turn, rounds=ROUNDS, warmup_rounds=1)
        assert probe.hits == CALLS * (ROUNDS + 1)
    benchmark.extra_info.update(
        unit="hit", ns=statistics.median(added), floor_ns=statistics.median(bare), limit_ns=3
    )


def bench_jump_insert_interpreter(benchmark, interpreter):
    """Counting every function of a live interpreter, from the call to the last patch."""
    took: list[float] = []
    with uprobes.attach(interpreter.process.pid) as target:
        spec = every_function(target)

        def insert() -> None:
            start = time.perf_counter()
            probe = target.probe(spec)
            took.append(time.perf_counter() - start)
            benchmark.extra_info["unit"] = f"{len(probe.sites):,} functions"
            probe.remove()

        benchmark.pedantic(insert, rounds=5)
    benchmark.extra_info.update(ns=statistics.median(took) * 1e9, limit_ns=1e9)


def bench_jump_interpreter(benchmark, interpreter):
    """A fixed script of real work with all of them counted; the floor is the same without a probe."""
    bare: list[float] = []
    counted: list[float] = []
    with uprobes.attach(interpreter.process.pid) as target:
        probe = target.probe(every_function(target))

        def turn() -> None:
            probe.disable()
            seconds, expected = interpreter.work()
            bare.append(seconds)
            probe.enable()
            seconds, outcome = interpreter.work()
            counted.append(seconds)
            assert outcome == expected

        benchmark.pedantic(turn, rounds=TURNS, warmup_rounds=1)
        hits = probe.hits // (TURNS + 1)
        modes = sum(site.mode == "jump" for site in probe.sites)
    benchmark.extra_info.update(
        unit="run", ns=statistics.median(counted) * 1e9, floor_ns=statistics.median(bare) * 1e9, limit=1.6,
        note=f"{hits:,} hits a run, {modes:,} of {len(probe.sites):,} functions by jump",
    )  # fmt: skip
