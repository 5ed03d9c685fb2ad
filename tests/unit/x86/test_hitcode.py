"""Hit code, executed here: exact under storms, and invisible to the code around it."""

import os
import random

import pytest

from tests.native.harness import (
    MASK, NAMES, SCRATCH, STATUS_FLAGS, Area, Board, address_of, rseq_offset, run, storm,
)
from uprobe_core.x86.hitplan import HitPlan

needs_rseq = pytest.mark.skipif(rseq_offset() is None, reason="this C library registers no restartable sequences")
CPUS = len(os.sched_getaffinity(0))


@pytest.fixture
def area():
    return Area()


@pytest.mark.parametrize("rseq", [pytest.param(True, marks=needs_rseq), False], ids=["rseq", "lock"])
@pytest.mark.parametrize("dead", [SCRATCH, 0], ids=["dead", "live"])
def test_counts_are_exact_in_threads_that_move_and_are_signalled(area, rseq, dead):
    board = Board(12)
    area.open(board)
    place = {} if rseq else {"rseq_offset": None}
    code = area.function(HitPlan(shift=12, offset=40), dead=dead, flags_dead=bool(dead), **place)
    total, _, _ = storm(code, 4, 300_000, hops=CPUS, signals=True)
    assert total > 1_200_000
    assert board.sum(40) == total


def random_state(rng, stack):
    """Registers and flags of every kind, the stack pointer in `stack`."""
    state = {name: rng.choice([rng.getrandbits(64), rng.getrandbits(8), MASK - rng.getrandbits(8)]) for name in NAMES}
    state["rsp"] = stack.middle
    state["flags"] = 0x202 | (rng.getrandbits(12) & STATUS_FLAGS)
    return state


class Stack:
    """A stack with known bytes all over it."""

    def __init__(self):
        import mmap

        self.memory = mmap.mmap(-1, 3 * 4096)
        self.vaddr = address_of(self.memory)
        self.middle = self.vaddr + 4096 + 2048

    def fill(self, rng):
        self.content = rng.randbytes(len(self.memory))
        self.memory[:] = self.content

    def changes(self):
        """Offsets from the middle of the bytes that changed."""
        now = self.memory[:]
        return [at + self.vaddr - self.middle for at in range(len(now)) if now[at] != self.content[at]]


def plans():
    """One of each kind, as (name, plan): boards are 0 for counts, 1 for rings."""
    fields = [(0, 7), (0, 0), (0, 2), (0, 4), (1, 1), (0, 11)]
    # rdx > 4096 and rax << rcx != rbx
    ops = [(1, 2), (0, 4096), (25, 0), (31, 0), (1, 0), (1, 1), (18, 0), (1, 3), (22, 0), (31, 0)]
    yield "count", HitPlan(shift=12, offset=64)
    yield "count if", HitPlan(shift=12, offset=64, ops=ops)
    yield "count within budget", HitPlan(shift=12, offset=64, budget=128)
    yield "record", HitPlan(board=1, shift=14, order=6, site=77, fields=fields)
    yield "record if", HitPlan(board=1, shift=14, order=6, site=77, fields=fields, ops=ops)
    yield "record some", HitPlan(board=1, shift=14, order=6, every=3, fields=fields[:3], budget=128)
    yield "record to a full ring", HitPlan(board=1, shift=14, order=1, fields=fields[:2])


@needs_rseq
@pytest.mark.parametrize(("name", "plan"), list(plans()), ids=[name for name, _ in plans()])
def test_nothing_changes_but_what_is_dead(area, name, plan):
    rng = random.Random(name)
    stack = Stack()
    counters, ring = Board(12), Board(14)
    area.open(counters, 0)
    area.open(ring, 1)
    for board in (counters, ring):
        board.set_word(0, 128, 1 << 40)  # the budget
    dead_ones = [0, SCRATCH, 1 << 11, 1, 1 | 1 << 2, *(rng.getrandbits(16) & ~0x10 for _ in range(20))]
    for turn in range(60):
        dead = dead_ones[turn % len(dead_ones)]
        flags_dead = bool(rng.getrandbits(1))
        red_zone = bool(rng.getrandbits(1))
        rseq = {} if rng.getrandbits(2) or plan_records(plan) else {"rseq_offset": None, "has_rdpid": turn % 2 == 0}
        area.next = 4096
        code = area.machine(plan, dead=dead, flags_dead=flags_dead, red_zone=red_zone, **rseq)
        before = random_state(rng, stack)
        extra = rng.choice([0, 0x400, 0x40000, 0x40400, 0x200000])  # DF, AC, ID
        before["flags"] |= extra
        before["rsp"] = stack.middle + (0 if extra & 0x40000 else rng.randrange(16))
        stack.fill(rng)
        after = run(code, before)
        for number, register in enumerate(NAMES[:16]):
            if not dead >> number & 1:
                assert after[register] == before[register], (register, dead, turn)
        ignored = 0x202 | (STATUS_FLAGS if flags_dead else 0)
        assert (after["flags"] ^ before["flags"]) & ~ignored == 0
        assert after["rsp"] == before["rsp"]
        reach = before["rsp"] - stack.middle - (128 if red_zone else 0)
        assert all(offset < reach for offset in stack.changes())


def plan_records(plan):
    return plan.assemble(0x1000, gate_vaddr=0, rseq_offset=None) is None


@needs_rseq
def test_code_runs_on_a_misaligned_stack_with_alignment_checks_wherever_its_own_data_are(area):
    """EFLAGS.AC with an aligned stack is what code can have; the board, the gate and struct rseq are aligned."""
    board = Board(12)
    area.open(board)
    stack = Stack()
    code = area.machine(HitPlan(shift=12, offset=8))
    state = random_state(random.Random(3), stack)
    state["flags"] = 0x40202
    run(code, state)
    assert board.sum(8) == 1


def test_closed_board_is_left_alone(area):
    board = Board(12)
    area.open(board)
    code = area.function(HitPlan(shift=12, offset=8))
    storm(code, 1, 10)
    area.close()
    storm(code, 1, 10)
    assert board.sum(8) == 10


def test_child_of_a_fork_does_not_count(area):
    board = Board(12)
    area.open(board)
    code = area.function(HitPlan(shift=12, offset=8))
    storm(code, 1, 10)
    pid = os.fork()
    if not pid:
        storm(code, 1, 10)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert board.sum(8) == 10


@needs_rseq
@pytest.mark.parametrize("threads", [1, 4])
def test_budget_lets_exactly_so_many_through(area, threads):
    board = Board(12)
    area.open(board)
    board.set_word(0, 128, 5000)
    code = area.function(HitPlan(shift=12, offset=8, budget=128))
    storm(code, threads, 100_000, hops=CPUS, signals=True)
    assert board.sum(8) == 5000


def test_no_thread_is_left_inside_a_section(area):
    """Sections lie inside the code, in order, and begin and end at instructions."""
    from uprobes import decode

    plan = HitPlan(shift=14, order=6, every=3, fields=[(0, 7), (1, 2)])
    _, code, [(again, start, end)] = area.assemble(plan, rseq_offset=-160)
    starts, at = set(), 0
    while at < end:
        starts.add(at)
        at += decode(code[at:]).length
    assert at == end
    assert {again, start} <= starts
    # Nothing before the last instruction of the section writes where somebody else would see a half-done hit.
    assert again < start < end


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shift": 40}, "stride 40"),
        ({"shift": 12, "offset": 4}, "multiple of 8"),
        ({"shift": 12, "offset": 4096}, "end within a stride"),
        ({"shift": 12, "order": 20}, "end within a stride"),
        ({"shift": 12, "every": 2}, "for records"),
        ({"shift": 22, "order": 4, "every": 1 << 20}, "every"),
        ({"shift": 22, "order": 4, "fields": [(1, 256)]}, "field 256"),
        ({"shift": 12, "ops": [(99, 0)]}, "predicate code 99"),
        ({"shift": 12, "ops": [(0, 0)] * 200}, "predicate length"),
    ],
)
def test_plan_refuses_what_code_could_not_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        HitPlan(**arguments)
