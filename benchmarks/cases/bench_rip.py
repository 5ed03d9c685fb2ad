"""The answers to a RIP-relative operand beside each other: hits of `mov rax, [rip+disp]`, both sides on one core.

scratch and segment are the two classical proposals for instructions that run out of line: each needs a step, and
registers restored after it. displacement needs a slot within reach, and then no more than any other instruction.
"""

import pytest

import uprobes
from benchmarks.cases.bench_hit import LIMITS, floor_ns, measure_hits


@pytest.mark.parametrize(
    ("mode", "rip"),
    [("trap", "displacement"), ("step", "displacement"), ("step", "scratch"), ("step", "segment")],
)
def bench_rip_relative(benchmark, victim, cpu, mode, rip):
    """Counting only."""
    program = victim("rip_relative")
    with uprobes.attach(program.pid) as target:
        target.probe("rip_relative:load", mode=mode, rip=rip)
        measure_hits(benchmark, program, lambda: floor_ns(mode, cpu), LIMITS[mode])
