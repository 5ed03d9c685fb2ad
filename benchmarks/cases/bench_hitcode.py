"""The price of a hit that stays inside the target: what it adds to a call of a function that begins with a jump.

The function runs in this process; the floor is the same function without the jump, measured before every round.
"""

import os
import statistics
import subprocess
import threading
import time
from array import array
from pathlib import Path

import pytest

from benchmarks.cases.bench_hit import call_ns as victim_call_ns
from benchmarks.cases.conftest import ROUNDS
from benchmarks.compare.kernel_uprobe import tracefs, uprobe
from tests.native.harness import Area, Board, call_ns, call_paced, rseq_offset
from uprobe_core.abi import predicate_code
from uprobe_core.linux.clock import Clock
from uprobe_core.trace.ring import RingReader
from uprobe_core.x86.hitplan import HitPlan
from uprobes.process import read_modules
from uprobes.resolve import resolve
from uprobes.spec import parse

pytestmark = pytest.mark.skipif(rseq_offset() is None, reason="this C library registers no restartable sequences")

CALLS = 200_000
ORDER, SHIFT = 18, 24
RAX, RDX, RSP, RSI, RDI = 0, 2, 4, 6, 7
ARGUMENTS = [(0, RDI), (0, RSI), (0, RDX)]
BODY = b"\x48\x8d\x44\x7f\x01"  # lea rax, [rdi+rdi*2+1]
RET = b"\xc3"
NEVER = [(predicate_code.OP_REGISTER, RDX), (predicate_code.OP_CONSTANT, 1 << 40)]
NEVER += [(predicate_code.OP_GREATER, 0), (predicate_code.OP_TEST, 0)]
ENTRY = {"dead": 1 << RAX, "flags_dead": True, "red_zone": False}  # what the function itself overwrites
LIVE = {"dead": 0, "flags_dead": False, "red_zone": True}


class Probed:
    """A function with a jump to hit code, and the same function without."""

    def __init__(self, entry: HitPlan, exit_plan: HitPlan | None = None, **place: object) -> None:
        self.area = Area()
        self.board = Board(SHIFT)
        self.area.open(self.board)
        self.bare = self.area.put(BODY + RET)
        if exit_plan is not None:
            # The return is probed too: its code follows the function's body in the trampoline.
            made = self.area.assemble(exit_plan, prefix=BODY, suffix=RET, dead=0, flags_dead=True, red_zone=False)
            back = made[0]
        else:
            back = self.bare
        made = self.area.assemble(entry, suffix=(b"" if exit_plan else BODY) + b"\xe9\xcc\xcc\xcc\xcc", **place)
        at = made[0] + made[1].rindex(b"\xe9\xcc\xcc\xcc\xcc") + 5
        target = back if exit_plan else self.bare + len(BODY)
        self.poke(at - 4, (target - at).to_bytes(4, "little", signed=True))
        self.function = self.area.put(b"\xe9" + bytes(4))
        self.poke(self.function + 1, (made[0] - self.function - 5).to_bytes(4, "little", signed=True))

    def poke(self, vaddr: int, code: bytes) -> None:
        at = vaddr - self.area.vaddr
        self.area.memory[at : at + len(code)] = code


class Columns:
    """A reader of the rings, and where it reads to."""

    def __init__(self, board: Board, fields: int, order: int = ORDER) -> None:
        room = 1 << order
        self.reader = RingReader(board.memory, board.strides, SHIFT, 0, order, fields, Clock())
        self.columns = [array("Q", bytes(8 * room)), array("I", bytes(4 * room)), array("I", bytes(4 * room))]
        self.values = array("Q", bytes(8 * room * max(1, fields)))

    def read(self, everything: bool = True) -> int:
        return self.reader.read(*self.columns, self.values, everything)


def measure_added(benchmark, probed: Probed, limit_ns: float, columns: Columns | None = None) -> None:
    """Rounds of the bare function and the probed one; what a hit adds. Rings are emptied in between."""
    bare: list[float] = []
    added: list[float] = []

    def prepare() -> None:
        while columns is not None and columns.read():
            pass
        bare.append(call_ns(probed.bare, CALLS))

    def once() -> None:
        added.append(call_ns(probed.function, CALLS) - bare[-1])

    benchmark.pedantic(once, setup=prepare, rounds=ROUNDS, warmup_rounds=2)
    benchmark.extra_info.update(
        unit="hit", ns=statistics.median(added), floor_ns=statistics.median(bare), limit_ns=limit_ns
    )


def count_plan(**wishes: object) -> HitPlan:
    return HitPlan(shift=SHIFT, **wishes)


def record_plan(fields: object = ARGUMENTS, **wishes: object) -> HitPlan:
    return HitPlan(shift=SHIFT, **{"order": ORDER, "site": 1, "fields": fields} | wishes)


def bench_hit_count_at_entry(benchmark):
    """A count where a register is free and the flags are dead."""
    probed = Probed(count_plan(), **ENTRY)
    measure_added(benchmark, probed, 3)
    assert probed.board.sum(0) >= CALLS * ROUNDS


def bench_hit_count_all_live(benchmark):
    """A count where every register, the flags and the red zone are live."""
    measure_added(benchmark, Probed(count_plan(), **LIVE), 6)


def bench_hit_count_without_rseq(benchmark):
    """The way of targets that have registered no restartable sequences: a locked increment."""
    measure_added(benchmark, Probed(count_plan(), rseq_offset=None, **ENTRY), 20)


def bench_hit_filtered_out(benchmark):
    """A condition on an argument that does not hold."""
    probed = Probed(count_plan(ops=NEVER), **ENTRY)
    measure_added(benchmark, probed, 4)
    assert probed.board.sum(0) == 0


def bench_hit_record(benchmark):
    """A record of time, thread and three arguments."""
    probed = Probed(record_plan(), **ENTRY)
    columns = Columns(probed.board, 3)
    measure_added(benchmark, probed, 20, columns)
    assert columns.reader.lost == 0


def bench_hit_entry_and_exit(benchmark):
    """What a latency costs: two records."""
    plan = record_plan([(0, RSP)], order=ORDER + 1)
    probed = Probed(plan, plan, **ENTRY)
    columns = Columns(probed.board, 1, ORDER + 1)
    measure_added(benchmark, probed, 40, columns)
    assert columns.reader.lost == 0


@pytest.mark.parametrize("kind", ["count", "record"])
def bench_hit_two_threads(benchmark, kind):
    """Two threads at once, each on its processor: what a hit adds may be at most 1.2 times as much as for one."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two processors")
    probed = Probed(count_plan() if kind == "count" else record_plan(), **ENTRY)
    columns = Columns(probed.board, 3) if kind == "record" else None
    # Short, and often: most rounds have both processors for themselves even where others work on the machine.
    alone: list[float] = []
    together: list[float] = []

    def prepare() -> None:
        while columns is not None and columns.read():
            pass
        alone.append(call_ns(probed.function, CALLS, 1))
        while columns is not None and columns.read():
            pass

    def once() -> None:
        together.append(call_ns(probed.function, CALLS, 2))

    benchmark.pedantic(once, setup=prepare, rounds=4 * ROUNDS, warmup_rounds=2)
    benchmark.extra_info.update(
        unit="call", ns=statistics.median(together), floor_ns=statistics.median(alone), limit=1.2
    )


def bench_ring_reader(benchmark):
    """A quarter of a million records of three fields into columns, by one processor."""
    probed = Probed(record_plan(), **ENTRY)
    columns = Columns(probed.board, 3)
    read: list[int] = []
    benchmark.pedantic(
        lambda: read.append(columns.read()),
        setup=lambda: call_ns(probed.function, CALLS) and None,
        rounds=ROUNDS,
        warmup_rounds=2,
    )
    assert set(read) == {CALLS}
    benchmark.extra_info.update(unit="record", per=CALLS, limit_ns=50)


def bench_ring_five_million_a_second(benchmark):
    """Five million records in a second from one processor, read by the other: none may be lost."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two processors")
    probed = Probed(record_plan(), **ENTRY)
    columns = Columns(probed.board, 3)
    total, over = 0, threading.Event()

    def read() -> None:
        nonlocal total
        os.sched_setaffinity(0, {1})
        while not over.is_set():
            total += columns.read(everything=False)
            time.sleep(0.001)
        while found := columns.read():
            total += found

    def once() -> None:
        reader = threading.Thread(target=read)
        reader.start()
        call_paced(probed.function, 5_000_000, 200, 0)
        over.set()
        reader.join()

    benchmark.pedantic(once, rounds=1)
    assert (total, columns.reader.lost) == (5_000_000, 0)
    benchmark.extra_info.update(unit="record", per=5_000_000, lost=columns.reader.lost)


def bench_hit_kernel_uprobe(benchmark, victim):
    """The peer: what the kernel's uprobe adds to a call of a small function.

    The floor is what a count of ours adds, so that the ratio tells how many times dearer the kernel's is.
    """
    if os.geteuid():
        pytest.skip("needs root")
    hot = victim("hot")
    (place,) = resolve(parse("hot:hot"), read_modules(hot.pid), hot.pid)
    probed = Probed(count_plan(), **ENTRY)
    ours: list[float] = []
    kernel: list[float] = []

    def added_by_ours() -> None:
        bare = call_ns(probed.bare, CALLS)
        ours.append(call_ns(probed.function, CALLS) - bare)

    try:
        with tracefs() as trace:
            bare = min(victim_call_ns(hot, CALLS) for _ in range(3))
            with uprobe(trace, Path(place.module), place.location.file_offset):
                benchmark.pedantic(
                    lambda: kernel.append(victim_call_ns(hot, CALLS // 10) - bare), setup=added_by_ours, rounds=ROUNDS
                )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the kernel's uprobes cannot be used here: {error}")
    # Where a count hides behind the call's own latency it costs nothing; the clock's resolution is what is left.
    floor = max(statistics.median(ours), 0.1)
    benchmark.extra_info.update(unit="hit", ns=statistics.median(kernel), floor_ns=floor, least=100)
