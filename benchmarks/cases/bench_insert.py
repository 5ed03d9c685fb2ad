"""Many probes at once: putting them in, taking them out, and what they cost in memory."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import uprobes
from tests.process import ENVIRONMENT, ROOT
from tests.victim import Victim

ROUNDS = 5
SITES = 10_000
MANY = 100_000
MILLION = 1_000_000
LIMITS_MS = {SITES: 50, MANY: 500}
SITE_BYTES_LIMIT = 48


@pytest.mark.parametrize("mode", ["trap", "step"])
def bench_insert_by_glob(benchmark, victim, mode):
    """Resolving, decoding, planning, writing slots and patches of every function of a program."""
    attached = []

    def fresh():
        if attached:
            attached.pop().detach()
        attached.append(uprobes.attach(victim("many_functions").pid))

    def insert():
        probe = attached[0].probe("many_functions:function_*", mode=mode)
        assert len(probe.sites) == SITES

    benchmark.pedantic(insert, setup=fresh, rounds=ROUNDS)
    attached.pop().detach()
    benchmark.extra_info.update(unit=f"{SITES:,} probes")


def program(builder, sites: int) -> Path:
    """One with at least so many instructions in functions of four."""
    return builder.build("many_functions", f"-DFUNCTIONS={max(sites // 4, SITES)}")


def addresses(pid: int, sites: int) -> list[int]:
    """Of so many instructions, as another program found them."""
    code = f"import uprobes\nwith uprobes.attach({pid}) as t:\n print(*t.instructions('many_functions:function_*'))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=ENVIRONMENT)
    found = [int(word) for word in done.stdout.split()]
    return found[:: len(found) // sites][:sites]


def ms_limit(benchmark, sites: int) -> None:
    benchmark.extra_info.update(unit=f"{sites:,} sites", limit_ns=LIMITS_MS[sites] * 1e6)


@pytest.mark.parametrize("sites", [SITES, MANY])
def bench_insert(benchmark, builder, sites):
    """Known addresses, when the program's symbols have been read before."""
    with Victim(program(builder, sites)) as many:
        known = addresses(many.pid, sites)
        attached = []

        def fresh():
            if attached:
                attached.pop().detach()
            attached.append(uprobes.attach(many.pid))

        benchmark.pedantic(lambda: attached[0].probe(known), setup=fresh, rounds=ROUNDS, warmup_rounds=1)
        assert not any(site.refusal for site in attached[0].probe(known).sites)
        attached.pop().detach()
    ms_limit(benchmark, sites)


FIRST = """
import sys, time, uprobes
known = list(map(int, sys.stdin.read().split()))
with uprobes.attach(int(sys.argv[1])) as target:
    start = time.perf_counter_ns()
    target.probe(known)
    print(time.perf_counter_ns() - start)
"""


@pytest.mark.parametrize("sites", [SITES, MANY])
def bench_insert_first(benchmark, builder, tmp_path, sites):
    """Known addresses, by an interpreter that has just started and knows nothing of the program."""
    copy = tmp_path / "many_functions"
    shutil.copy(program(builder, sites), copy)
    taken = []
    with Victim(copy) as many:
        text = " ".join(map(str, addresses(many.pid, sites)))

        def first():
            command = [sys.executable, "-c", FIRST, str(many.pid)]
            done = subprocess.run(command, input=text, check=True, capture_output=True, text=True, env=ENVIRONMENT)
            taken.append(int(done.stdout))

        benchmark.pedantic(first, rounds=ROUNDS)
    ms_limit(benchmark, sites)
    benchmark.extra_info["ns"] = sorted(taken)[len(taken) // 2]


@pytest.mark.parametrize("sites", [SITES, MANY])
def bench_remove(benchmark, builder, sites):
    """Taking them out again."""
    with Victim(program(builder, sites)) as many, uprobes.attach(many.pid) as target:
        known = addresses_by(target, sites)
        probes = []
        benchmark.pedantic(
            lambda: probes.pop().remove(), setup=lambda: probes.append(target.probe(known)), rounds=ROUNDS
        )
    ms_limit(benchmark, sites)


def addresses_by(target: uprobes.Target, sites: int) -> list[int]:
    """Of so many instructions, as the target's own tracer finds them."""
    found = target.instructions("many_functions:function_*")
    return found[:: len(found) // sites][:sites]


def bench_detach(benchmark, victim):
    """Taking ten thousand out with everything else that detaching does."""
    attached = []

    def fresh():
        attached.append(uprobes.attach(victim("many_functions").pid))
        attached[0].probe("many_functions:function_*")

    benchmark.pedantic(lambda: attached.pop().detach(), setup=fresh, rounds=ROUNDS)
    benchmark.extra_info.update(unit=f"{SITES:,} probes")


MEMORY = """
import re, sys, time, uprobes
from array import array

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

with uprobes.attach(int(sys.argv[1])) as target:
    first = target.probe("long_function:run").sites[0].address
    known = range(first, first + 4 * int(sys.argv[2]), 4)
    before = resident()
    start = time.perf_counter_ns()
    probe = target.probe(known)
    assert not probe.sites[-1].refusal
    taken = time.perf_counter_ns() - start
    tracer = target._owner.tracer
    print(taken, tracer.site_bytes / tracer.site_count, (resident() - before) / len(known))
"""


def bench_million(benchmark, victim):
    """A million sites: how long they take, a site's bytes in the tracer's tables, and of resident memory in all."""
    long = victim("long_function")
    told = []

    def insert():
        command = [sys.executable, "-c", MEMORY, str(long.pid), str(MILLION)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT)
        told.append([float(word) for word in done.stdout.split()])

    benchmark.pedantic(insert, rounds=1)
    taken, table, resident = told[0]
    benchmark.extra_info.update(
        unit=f"{MILLION:,} sites", ns=taken, note=f"{table:.1f} bytes a site in tables, {resident:.0f} resident"
    )
    assert table <= SITE_BYTES_LIMIT
