"""Planning without a process: what insertion does for each site."""

import pytest

from uprobe_core.x86.survey import survey

SITE = 0x7F00_0000_1000
REPEATS = 10_000
# A function as compilers write them: prologue, moves, RIP-relative operands, branches, a call.
FUNCTION = bytes.fromhex(
    "f3 0f 1e fa 55 48 89 e5 41 54 53 48 83 ec 10 48 8b 1d 10 20 00 00 48 85 db 74 20 48 8d 3d 30 10 00 00"
    "31 c0 e8 40 00 00 00 89 44 24 0c 8b 53 08 c5 f9 6f 05 50 00 00 00 48 83 c4 10 5b 41 5c 5d c3"
)
INSTRUCTIONS = 20


@pytest.mark.parametrize("mode", ["trap", "step"])
def bench_decode_and_plan(benchmark, mode):
    """Decoding and planning an instruction of compiled code, in one loop without the GIL."""
    kinds, refused = benchmark(survey, FUNCTION * REPEATS, SITE, mode=mode)
    assert sum(kinds.values()) == REPEATS * INSTRUCTIONS
    assert not refused
    benchmark.extra_info.update(unit="instruction", per=REPEATS * INSTRUCTIONS)
