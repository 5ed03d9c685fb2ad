"""Rings: what hit code writes is what is read, whole, in order, once; scrambled memory does no harm."""

import ctypes
import os
import random
import threading
import time
from array import array

import pytest

from tests.native.harness import MASK, Area, Board, library, rseq_offset, storm
from uprobe_core.abi import RECORD_UNREAD, RING_HEADER, RING_STEP
from uprobe_core.linux.clock import Clock, tsc
from uprobe_core.trace.ring import RingReader
from uprobe_core.x86.hitplan import HitPlan

CPUS = len(os.sched_getaffinity(0))
RDI, RSI, RDX, RSP = 7, 6, 2, 4
ARGUMENTS = [(0, RDI), (0, RSI), (0, RDX)]
needs_rseq = pytest.mark.skipif(rseq_offset() is None, reason="this C library registers no restartable sequences")
CLOCK = Clock()


class Reader:
    """A reader with columns of its own; rows are (time, tid, site, *fields)."""

    def __init__(self, board, order, fields, room=65536, strides=None):
        self.reader = RingReader(board.memory, strides or board.strides, board.shift, 0, order, fields, CLOCK)
        self.room, self.fields = room, fields
        self.columns = [array("Q", bytes(8 * room)), array("I", bytes(4 * room)), array("I", bytes(4 * room))]
        self.values = array("Q", bytes(8 * room * max(fields, 1)))

    def read(self, everything=True):
        count = self.reader.read(*self.columns, self.values, everything)
        columns = [column[:count] for column in self.columns]
        columns += [self.values[self.room * i : self.room * i + count] for i in range(self.fields)]
        return list(zip(*columns, strict=True))

    def drain(self):
        rows = []
        while more := self.read():
            rows += more
        return rows


@pytest.fixture
def area():
    return Area()


@needs_rseq
@pytest.mark.parametrize("dead", [True, False])
def test_records_say_what_happened(area, dead):
    board = Board(16)
    area.open(board)
    place = {} if dead else {"dead": 0, "flags_dead": False}
    code = area.function(HitPlan(shift=16, order=8, site=7, fields=ARGUMENTS), **place)
    reader = Reader(board, 8, 3)
    before = time.monotonic_ns()
    _, tids, _ = storm(code, 1, 100)
    after = time.monotonic_ns()
    rows = reader.drain()
    assert [row[3:] for row in rows] == [(0, i, MASK - i) for i in range(1, 101)]
    assert {row[1] for row in rows} == set(tids)
    assert {row[2] for row in rows} == {7}
    times = [row[0] for row in rows]
    assert times == sorted(times)
    assert before - 1000 <= times[0] <= times[-1] <= after + 1000
    assert reader.reader.lost == reader.reader.damaged == 0
    assert reader.drain() == []


@needs_rseq
def test_none_is_torn_lost_or_doubled_under_a_storm(area):
    """Threads that move and are interrupted by handlers that write to the same rings; a reader at the same time."""
    board = Board(22)
    area.open(board)
    code = area.function(HitPlan(shift=22, order=16, site=7, fields=ARGUMENTS))
    reader = Reader(board, 16, 3)
    rows, over = [], threading.Event()

    def read():
        while not over.is_set():
            rows.extend(reader.read(everything=False))
        rows.extend(reader.drain())

    thread = threading.Thread(target=read)
    thread.start()
    total, tids, counts = storm(code, 3, 60_000, hops=CPUS, signals=True)
    over.set()
    thread.join()
    assert len(rows) + reader.reader.lost == total
    assert reader.reader.damaged == 0
    seen = [set(), set(), set()], [set(), set(), set()]
    for _, tid, site, who, number, inverse in rows:
        assert number ^ inverse == MASK
        assert site == 7
        worker = who & 0xFFFF
        assert tid == tids[worker]
        assert number not in seen[who >> 16][worker]
        seen[who >> 16][worker].add(number)
    for worker in range(3):
        assert len(seen[0][worker]) + len(seen[1][worker]) <= counts[worker]
    times = [row[0] for row in rows]
    # A processor that was taken away between its clock and its store may be late; that is what the slack is for.
    late = sum(a > b for a, b in zip(times, times[1:], strict=False))
    assert late < len(times) // 1000


@needs_rseq
def test_full_ring_overwrites_nothing_and_counts(area):
    board = Board(12)
    area.open(board)
    code = area.function(HitPlan(shift=12, order=4, fields=ARGUMENTS))
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        storm(code, 1, 100)
        reader = Reader(board, 4, 3)
        assert [row[4] for row in reader.drain()] == list(range(1, 17))
        assert reader.reader.lost == 84
        storm(code, 1, 10)
        assert [row[4] for row in reader.drain()] == list(range(1, 11))
    finally:
        os.sched_setaffinity(0, allowed)


@needs_rseq
@pytest.mark.parametrize("every", [2, 3, 100, RING_STEP - 1])
def test_one_hit_in_so_many_is_kept(area, every):
    board = Board(16)
    area.open(board)
    code = area.function(HitPlan(shift=16, order=8, every=every, fields=ARGUMENTS))
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        storm(code, 1, min(every * 20, 2 * RING_STEP))
    finally:
        os.sched_setaffinity(0, allowed)
    kept = [row[4] for row in Reader(board, 8, 3).drain()]
    assert kept == list(range(1, min(every * 20, 2 * RING_STEP) + 1, every))


@needs_rseq
def test_words_of_the_stack_are_read_but_not_past_its_page(area):
    from tests.native.harness import run
    from tests.unit.x86.test_hitcode import Stack, random_state

    board = Board(16)
    area.open(board)
    code = area.machine(HitPlan(shift=16, order=8, fields=[(1, 0), (1, 3), (0, RSP)]))
    stack = Stack()
    stack.fill(random.Random(1))
    state = random_state(random.Random(2), stack)
    run(code, state)
    page_end = stack.vaddr + 2 * 4096
    run(code, {**state, "rsp": page_end - 24})
    (_, _, first_site, *first), (_, _, second_site, *second) = Reader(board, 8, 3).drain()
    at = stack.middle - stack.vaddr
    words = [int.from_bytes(stack.content[i : i + 8], "little") for i in (at, at + 24)]
    assert first == [*words, stack.middle]
    assert not first_site & RECORD_UNREAD
    last = int.from_bytes(stack.content[2 * 4096 - 24 : 2 * 4096 - 16], "little")
    assert second == [last, 0, page_end - 24]
    assert second_site & RECORD_UNREAD


def put_record(board, ring, index, order, fields, when, tid=1, site=2, values=()):
    size = 16 + 8 * fields
    at = (ring << board.shift) + RING_HEADER + (index % (1 << order)) * size
    record = when.to_bytes(8, "little") + tid.to_bytes(4, "little") + site.to_bytes(4, "little")
    board.memory[at : at + size] = record + b"".join(value.to_bytes(8, "little") for value in values)


def test_rings_are_merged_by_time():
    rng = random.Random(5)
    board = Board(14)
    board.memory = bytearray(9 << 14)
    now = tsc() - 10_000_000
    rows = []
    for ring in range(9):
        when = now
        count = rng.randrange(64)
        for index in range(count):
            when += rng.randrange(1, 5000)
            put_record(board, ring, index, 6, 1, when, tid=ring, site=index, values=[when])
            rows.append(when)
        board.memory[ring << 14 : (ring << 14) + 8] = (count * RING_STEP).to_bytes(8, "little")
    reader = Reader(board, 6, 1, room=50, strides=9)
    read = reader.drain()
    assert [row[3] for row in read] == sorted(rows)
    assert [row[0] for row in read] == sorted(row[0] for row in read)


def test_late_records_wait_for_earlier_ones():
    """Of the last millisecond none is given out: another processor may still write an earlier one."""
    board = Board(14)
    put_record(board, 0, 0, 6, 0, tsc())
    board.set_word(0, 0, RING_STEP)
    reader = Reader(board, 6, 0)
    assert reader.read(everything=False) == []
    time.sleep(0.002)
    assert len(reader.read(everything=False)) == 1


def test_head_wraps_around():
    board = Board(14)
    start = (1 << 44) - 3
    board.set_word(0, 64, start * RING_STEP)
    reader = Reader(board, 6, 0)
    for index in range(start, start + 6):
        put_record(board, 0, index, 6, 0, tsc() - 1000, site=index - start)
    board.set_word(0, 0, (start + 6) * RING_STEP)
    assert [row[2] for row in reader.drain()] == [0, 1, 2, 3, 4, 5]
    assert board.word(0, 64) == ((start + 6) * RING_STEP) & MASK


def test_scrambled_rings_do_no_harm():
    """Random words everywhere, again and again while it reads: every call ends, with no more records than a ring has."""
    rng = random.Random(11)
    board = Board(12)
    board.memory = bytearray(3 << 12)
    reader = Reader(board, 5, 4, room=100, strides=3)
    for _ in range(3000):
        kind = rng.randrange(4)
        if kind == 0:
            board.memory[:] = rng.randbytes(len(board.memory))
        elif kind == 1:
            board.set_word(rng.randrange(3), 0, rng.getrandbits(64))
        elif kind == 2:
            board.set_word(rng.randrange(3), 64, rng.getrandbits(64))
        else:
            board.set_word(rng.randrange(3), 0, rng.randrange(64) * RING_STEP)
        assert len(reader.read(everything=bool(rng.getrandbits(1)))) <= 96
        assert reader.reader.waiting <= 96
    assert reader.reader.damaged
    # And what is written properly afterwards is read.
    board.memory[:] = bytes(len(board.memory))
    reader.drain()
    put_record(board, 1, 0, 5, 4, tsc(), values=[1, 2, 3, 4])
    board.set_word(1, 0, RING_STEP)
    assert [row[3:] for row in reader.drain()] == [(1, 2, 3, 4)]


def test_scrambling_thread_does_not_stop_the_reader():
    board = Board(12)
    board.memory = bytearray(3 << 12)
    address = ctypes.addressof(ctypes.c_char.from_buffer(board.memory))
    over = threading.Event()

    def scramble():
        rng = random.Random(1)
        while not over.is_set():
            ctypes.memmove(address, rng.randbytes(3 << 12), 3 << 12)

    thread = threading.Thread(target=scramble)
    thread.start()
    reader = Reader(board, 5, 4, room=40, strides=3)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        reader.read(everything=True)
        reader.read(everything=False)
    over.set()
    thread.join()


@pytest.mark.parametrize(
    "arguments", [(1, 10, 0, 10, 0), (4, 12, 0, 4, 0), (1, 12, 4, 4, 0), (0, 12, 0, 4, 0), (1, 12, 0, 4, 17), (1, 12, 0, 30, 0)]
)
def test_reader_refuses_what_does_not_fit(arguments):
    with pytest.raises(ValueError, match="do not fit"):
        RingReader(bytearray(4096), *arguments, CLOCK)


def test_columns_must_have_room():
    reader = RingReader(bytearray(4096), 1, 12, 0, 4, 2, CLOCK)
    with pytest.raises(ValueError, match="columns"):
        reader.read(array("Q", bytes(80)), array("I", bytes(40)), array("I", bytes(40)), array("Q", bytes(80)))


def test_clock_agrees_with_the_kernel():
    clock = Clock()
    for _ in range(700):  # more than there are anchors
        clock.read()
    stamps, around = array("Q"), []
    for _ in range(50):
        before = time.monotonic_ns()
        stamps.append(tsc())
        around.append((before, time.monotonic_ns()))
        time.sleep(0.0002)
    clock.read()
    clock.convert(stamps)
    assert all(before - 500 <= stamp <= after + 500 for stamp, (before, after) in zip(stamps, around, strict=True))
    assert list(stamps) == sorted(stamps)
    assert abs(clock.span(clock.ticks(1_000_000_000)) - 1_000_000_000) < 1000
    hostile = array("Q", [0, MASK, 1 << 63])
    clock.convert(hostile)


def test_harness_found_the_threads_number():
    assert library().tid_offset() > 0
