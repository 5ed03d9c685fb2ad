"""Ten thousand probes by one glob: putting them in, and taking them out."""

import pytest

import uprobes

ROUNDS = 5
SITES = 10_000


@pytest.mark.parametrize("mode", ["trap", "step"])
def bench_insert(benchmark, victim, mode):
    """Resolving, decoding, planning, writing slots and patches; the program's symbols are read each time anew."""
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


def bench_detach(benchmark, victim):
    """Taking them all out again, with everything else that detaching does."""
    attached = []

    def fresh():
        attached.append(uprobes.attach(victim("many_functions").pid))
        attached[0].probe("many_functions:function_*")

    benchmark.pedantic(lambda: attached.pop().detach(), setup=fresh, rounds=ROUNDS)
    benchmark.extra_info.update(unit=f"{SITES:,} probes")
