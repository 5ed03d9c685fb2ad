"""The core's own work without any target: plans, slots, and what is done with registers at a hit."""

import pytest

from benchmarks.core import load_loops
from uprobe_core.x86.relocate import plan

LOOPS = 100_000
SITE = 0x401000
SLOT = 0x411000
STEPPED = {"plain": "4889e5", "call": "e800010000", "rip-relative": "488b0500100000"}
EMULATED = {"jmp": "eb10", "call": "ff10", "push": "55", "ret": "c3", "jcc": "7410"}


def bench_plan(benchmark):
    """Decoding, planning and placing one rip-relative instruction, from Python."""
    benchmark(plan, bytes.fromhex("488b0500100000"), SITE, SLOT)
    benchmark.extra_info.update(unit="call")


@pytest.mark.parametrize("taken", [0, 99_999], ids=["empty", "nearly-full"])
def bench_slot(benchmark, taken):
    """Taking a slot of 100,000 and putting it back."""
    slots = load_loops().Slots(100_000, taken)
    benchmark(slots.take_and_put, LOOPS)
    benchmark.extra_info.update(unit="pair", per=LOOPS)


@pytest.mark.parametrize("name", STEPPED)
def bench_fixup(benchmark, name):
    """Registers before and after a single step."""
    hit = load_loops().Hit(plan(bytes.fromhex(STEPPED[name]), SITE, SLOT, mode="step"))
    benchmark(hit.step, LOOPS)
    benchmark.extra_info.update(unit="hit", per=LOOPS)


def bench_boost(benchmark):
    """The new ip of a hit whose slot ends in a jump back."""
    hit = load_loops().Hit(plan(bytes.fromhex("4889e5"), SITE, SLOT, mode="trap"))
    benchmark(hit.emulate, LOOPS)
    benchmark.extra_info.update(unit="hit", per=LOOPS)


@pytest.mark.parametrize("name", EMULATED)
def bench_emulate(benchmark, name):
    """The way past the instruction without a slot, and without the memory accesses that it may ask for."""
    hit = load_loops().Hit(plan(bytes.fromhex(EMULATED[name]), SITE, mode="trap", reach="none"))
    benchmark(hit.emulate, LOOPS)
    benchmark.extra_info.update(unit="hit", per=LOOPS)
