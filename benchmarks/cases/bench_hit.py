"""The price of a hit: the time that one call of a small probed function takes.

The target measures itself. The floor is measured before every round, on the same processor.
"""

import os
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable

import pytest

import uprobes
from benchmarks.cases.conftest import ROUNDS
from benchmarks.floors import measure
from tests.process import ENVIRONMENT, ROOT
from tests.victim import Victim

CALLS = 1000
FLOORS = {"trap": ("stop",), "step": ("stop", "step")}
LIMITS = {"trap": 1.25, "step": 1.2}
PEER_CALLS = CALLS // 5


def floor_ns(mode: str, cpu: int) -> float:
    """What the bare stops of a mode cost now."""
    return sum(measure(name, cpu)[0] for name in FLOORS[mode])


def call_ns(hot: Victim, calls: int = CALLS) -> float:
    """Nanoseconds a call, by the target's own clock."""
    hot.order(calls)
    return int(hot.wait_line("ns").split()[1]) / calls


def measure_hits(benchmark, hot: Victim, floor: Callable[[], float], limit: float | None) -> None:
    """Rounds of CALLS calls, each after a measurement of the floor; figures go beside the benchmark's own."""
    floors: list[float] = []
    hits: list[float] = []
    benchmark.pedantic(
        lambda: hits.append(call_ns(hot)),
        setup=lambda: floors.append(floor()),
        rounds=ROUNDS,
        warmup_rounds=1,
    )
    benchmark.extra_info.update(
        unit="hit", ns=statistics.median(hits), floor_ns=statistics.median(floors), limit=limit
    )


@pytest.mark.parametrize("mode", ["trap", "step"])
def bench_count(benchmark, victim, cpu, mode):
    """Counting only, target and tracer on one processor."""
    hot = victim("hot")
    with uprobes.attach(hot.pid) as target:
        target.probe("hot:hot", mode=mode)
        measure_hits(benchmark, hot, lambda: floor_ns(mode, cpu), LIMITS[mode])


@pytest.mark.parametrize("mode", ["trap", "step"])
def bench_count_free(benchmark, victim, mode):
    """Counting only, both where the kernel and the tracer put them; the floor is the one of one processor."""
    hot = victim("hot")
    cpu = max(os.sched_getaffinity(0))
    with uprobes.attach(hot.pid) as target:
        target.probe("hot:hot", mode=mode)
        measure_hits(benchmark, hot, lambda: floor_ns(mode, cpu), None)


def bench_callback(benchmark, victim, cpu):
    """A Python callback that looks at one argument."""
    hot = victim("hot")
    seen = []
    with uprobes.attach(hot.pid) as target:

        @target.on("hot:hot")
        def _(hit):
            seen[:] = [hit.args[0]]

        measure_hits(benchmark, hot, lambda: measure("stop", cpu)[0], None)
    assert seen


def bench_python_ptrace(benchmark, victim, cpu):
    """The peer: a breakpoint of python-ptrace, in a process of its own."""
    served = str((2 + ROUNDS) * PEER_CALLS)
    measure_peer(benchmark, victim("hot"), cpu, [sys.executable, "-m", "benchmarks.compare.python_ptrace"], served)


@pytest.mark.skipif(shutil.which("gdb") is None, reason="no gdb; Debian: apt-get install gdb")
def bench_gdb(benchmark, victim, cpu):
    """The peer: a breakpoint of gdb that counts and goes on by itself."""
    measure_peer(benchmark, victim("hot"), cpu, [sys.executable, "-m", "benchmarks.compare.gdb"])


def measure_peer(benchmark, hot: Victim, cpu: int, command: list[str], *arguments: str) -> None:
    """The same calls with a breakpoint of another tool, which says `in` when it is in; the floor is the bare stop."""
    words = [*command, str(hot.pid), hex(function_address(hot, "hot")), *arguments]
    peer = subprocess.Popen(words, stdout=subprocess.PIPE, env=ENVIRONMENT, cwd=ROOT)
    try:
        assert b"in\n" in iter(peer.stdout.readline, b"")
        floors, hits = [], []
        benchmark.pedantic(
            lambda: hits.append(call_ns(hot, PEER_CALLS)),
            setup=lambda: floors.append(measure("stop", cpu)[0]),
            rounds=ROUNDS,
            warmup_rounds=1,
        )
    finally:
        hot.kill()
        peer.send_signal(signal.SIGKILL)
        peer.wait()
        peer.stdout.close()
    benchmark.extra_info.update(unit="hit", ns=statistics.median(hits), floor_ns=statistics.median(floors))


def function_address(hot: Victim, name: str) -> int:
    """Where a function of the victim lies in its process."""
    with uprobes.attach(hot.pid) as target:
        return target.probe(f"hot:{name}").sites[0].address
