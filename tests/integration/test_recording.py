"""Recordings and latencies of real processes, at stops: every hit, whole, in order, with what was asked for."""

import time

import pytest

import uprobes
from uprobes.errors import FieldError, PredicateError, UprobeError

ROUNDS = 50
CALLS = 4 * ROUNDS
MASK = (1 << 64) - 1


@pytest.fixture
def timed(victim):
    return victim("timed")


def run_rounds(victim, rounds=ROUNDS):
    victim.order(rounds)
    victim.wait_line("rounds")


def rows(recording):
    recording.disable()
    found = []
    while (batch := recording.read()) is not None:
        found += batch
    return found


@pytest.mark.parametrize("mode", ["trap", "step"])
def test_records_have_arguments_and_stack_words(timed, mode):
    with uprobes.attach(timed.pid) as target:
        recording = target.record("timed:seven", ["arg0", "rsi", "arg6", "stack0", "rsp"], mode=mode)
        before = time.monotonic_ns()
        run_rounds(timed)
        after = time.monotonic_ns()
        found = rows(recording)
        assert recording.hits == CALLS
        assert len(found) == CALLS
        assert recording.lost == recording.damaged == 0
        assert {record.site.name for record in found} == {"seven"}
        assert all(record.rsi == record.arg0 + 1 and record.arg6 == record.arg0 + 6 for record in found)
        assert sorted(record.arg0 for record in found) == sorted(list(range(ROUNDS)) * 4)
        assert len({record.tid for record in found}) == 4
        times = [record.time_ns for record in found]
        assert times == sorted(times)
        assert before - 1000 < times[0] <= times[-1] < after + 1000
        # The return address is in the caller, which has one call of it.
        assert len({record.stack0 for record in found}) == 1
        assert "arg0=0x0" in repr(found[0])


def test_records_come_while_the_target_runs(timed):
    with uprobes.attach(timed.pid) as target:
        recording = target.record("timed:seven", "arg0")
        timed.order(ROUNDS)
        seen = []
        for record in recording:
            seen.append(record.arg0)
            if len(seen) == CALLS:
                break
        timed.wait_line("rounds")
        assert sorted(seen) == sorted(list(range(ROUNDS)) * 4)


def test_iterating_ends_with_the_target(timed):
    with uprobes.attach(timed.pid) as target:
        recording = target.record("timed:seven")
        run_rounds(timed)
        timed.process.kill()
        assert len(list(recording)) == CALLS


def test_what_was_recorded_outlives_the_tracing(timed):
    with uprobes.attach(timed.pid) as target:
        recording = target.record("timed:seven", "arg0")
        run_rounds(timed)
    assert len(list(recording)) == CALLS
    assert recording.read() is None


def test_condition_sampling_and_limit(timed):
    with uprobes.attach(timed.pid) as target:
        some = target.record("timed:seven", "arg0", when="arg0 % 2 == 1 and arg6 > 10")
        third = target.record("timed:seven", every=3)
        few = target.record("timed:seven", limit=17)
        count = target.probe("timed:seven", when="arg0 < 10")
        run_rounds(timed)
        assert sorted(record.arg0 for record in rows(some)) == sorted([*range(5, ROUNDS, 2)] * 4)
        assert len(rows(third)) == -(-CALLS // 3)
        assert len(rows(few)) == 17
        assert few.hits == CALLS
        assert count.hits == 40


def test_several_places_in_one_recording(timed):
    with uprobes.attach(timed.pid) as target:
        recording = target.record(["timed:seven", "timed:recurse", "uretprobe:timed:seven"], "retval")
        run_rounds(timed)
        found = rows(recording)
        names = [record.site.symbol for record in found]
        assert names.count("recurse") == 6 * CALLS
        assert names.count("seven") == 2 * CALLS
        returned = [r.retval for r in found if r.site.symbol == "seven" and r.site.offset]
        assert sorted(returned) == sorted([7 * i + 21 for i in range(ROUNDS)] * 4)


def test_arrow_table(timed):
    pytest.importorskip("pyarrow")
    with uprobes.attach(timed.pid) as target:
        recording = target.record(["timed:seven", "timed:nap"], ["arg0", "arg6"])
        run_rounds(timed)
        recording.disable()
        table = recording.to_arrow()
    assert table.num_rows == 2 * CALLS
    assert table.column_names == ["time_ns", "tid", "site", "address", "arg0", "arg6"]
    sevens = [row for row in table.to_pylist() if row["site"] == "seven"]
    assert len(sevens) == CALLS
    assert all(row["arg6"] == row["arg0"] + 6 for row in sevens)
    assert recording.arrow().num_rows == 0


def test_recording_can_be_paused(timed):
    with uprobes.attach(timed.pid) as target, target.record("timed:seven") as recording:
        run_rounds(timed, 5)
        recording.disable()
        run_rounds(timed, 5)
        recording.enable()
        run_rounds(timed, 5)
        assert len(rows(recording)) == 40


@pytest.mark.parametrize("fields", [["nothing"], ["tid"], ["eflags"], ["arg0"] * 17, ["arg999"]])
def test_unknown_fields_are_refused_before_anything_is_done(timed, fields):
    with uprobes.attach(timed.pid) as target:
        with pytest.raises(FieldError):
            target.record("timed:seven", fields)
        with pytest.raises(PredicateError):
            target.record("timed:seven", when="nothing > 1")
        with pytest.raises(FieldError):
            target.record("timed:seven", every=0)
        assert target._owner.tracer.site_count == 0


def test_latency_of_naps(timed):
    with uprobes.attach(timed.pid) as target:
        latency = target.latency("timed:nap")
        run_rounds(timed)
        latency.disable()
        assert latency.hits == CALLS
        assert latency.lost == latency.unpaired == 0
        histogram = latency.histogram
        assert 300_000 <= histogram.least <= histogram.percentile(50) < 50_000_000
        assert list(latency.functions) == ["nap"]
        assert (histogram + histogram).count == 2 * CALLS


def test_recursion_is_paired_by_frame(timed):
    with uprobes.attach(timed.pid) as target:
        latency = target.latency("timed:recurse")
        run_rounds(timed)
        latency.disable()
        assert latency.hits == 6 * CALLS
        assert latency.unpaired == latency.unfinished == 0


def test_calls_left_by_longjmp_are_not_times(timed):
    with uprobes.attach(timed.pid) as target:
        latency = target.latency("timed:perhaps")
        run_rounds(timed)
        latency.disable()
        assert latency.hits == CALLS // 2
        assert latency.unfinished == CALLS // 2
        # The longest is a call that returned, not one from its frame's former use to a later return.
        assert latency.histogram.most < 200_000_000


def test_latency_of_some_calls(timed):
    with uprobes.attach(timed.pid) as target:
        latency = target.latency("timed:seven", when="arg0 < 10 and arg1 != 3")
        run_rounds(timed)
        assert latency.percentile(50) > 0
        latency.close()
        assert latency.hits == 36
        with pytest.raises(UprobeError, match="reader"):
            target.latency("timed:seven", when="arg6 == 1")
        with pytest.raises(UprobeError):
            target.latency("timed:seven+4")


def test_latency_of_many_functions(victim):
    returns = victim("returns")
    with uprobes.attach(returns.pid) as target:
        latency = target.latency("returns:*_*")
        returns.order(40)
        deadline = time.monotonic() + 20
        while latency.functions.get("many_returns", uprobes.Histogram()).count < 40 and time.monotonic() < deadline:
            time.sleep(0.01)
        latency.close()
        functions = latency.functions
    for name in ("many_returns", "tail_call", "with_cold_part"):
        assert functions[name].count == 40
