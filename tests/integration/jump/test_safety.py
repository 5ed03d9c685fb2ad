"""Every rule of when a jump may be written, with a program that would break if it were not kept."""

import resource

import pytest

import uprobes
from tests.process import executable_text
from uprobes import Refusal

CALLS = 200


def test_functions_that_have_no_room_for_a_jump(victim):
    alone = victim("tight")
    alone.order(CALLS)
    expected = alone.finish()
    tight = victim("tight")
    before = executable_text(tight.pid)
    with uprobes.attach(tight.pid) as target:
        names = ["loop_back", "one_byte", "behind", "tabled", "roomy"]
        probes = {name: target.probe(f"tight:{name}") for name in names}
        modes = {name: probe.sites[0].mode for name, probe in probes.items()}
        assert modes | {"behind": "jump"} == dict.fromkeys(names, "trap") | {"roomy": "jump", "behind": "jump"}
        assert {probes[name].sites[0].why_not_jump for name in ("loop_back", "one_byte", "tabled")} <= {
            Refusal.SHORT, Refusal.LED_INTO, Refusal.INDIRECT
        }  # fmt: skip
        with pytest.raises(uprobes.ProbeRefused, match="five bytes"):
            target.probe("tight:one_byte+0", mode="jump")
        tight.order(CALLS)
        tight.wait_line("calls")
        assert {name: probe.hits for name, probe in probes.items()} == dict.fromkeys(names, CALLS)
    assert executable_text(tight.pid) == before
    assert tight.finish() == expected


def test_threads_inside_the_bytes_are_moved(victim):
    inside = victim("inside")
    inside.order(400)
    with uprobes.attach(inside.pid) as target:
        probe = target.probe("inside:fill")
        for _ in range(50):
            assert probe.sites[0].mode == "jump"
            probe.disable()
            probe.enable()
        inside.wait_line("rounds")
        counted = probe.hits
        inside.order(100)
        inside.wait_line("rounds")
        assert probe.hits - counted == 200
    reports = inside.finish()
    assert reports["wrong"] == 0
    assert reports["fill"] == 1000


def test_a_handler_that_will_return_into_the_bytes(victim):
    """The thread sits in a handler; its frame leads back to the second of the five bytes."""
    inside = victim("inside")
    inside.order(-1)
    inside.wait_line("held")
    with uprobes.attach(inside.pid) as target:
        with pytest.raises(uprobes.ProbeRefused, match="will return there"):
            target.probe("inside:fill", mode="jump")
        probe = target.probe("inside:fill")
        assert (probe.sites[0].mode, probe.sites[0].why_not_jump) == ("trap", Refusal.BUSY)
        inside.order(0)  # a line lets the handler return
        inside.wait_line("released")
        inside.order(3)
        inside.wait_line("rounds")
        assert probe.hits == 6
    assert inside.finish()["wrong"] == 0


def test_a_displaced_instruction_that_faults(victim):
    faulty = victim("long_faults")
    with uprobes.attach(faulty.pid) as target:
        probe = target.probe("long_faults:load", mode="jump")
        faulty.order(50)
        assert faulty.wait_line("done") == "done 50"
        assert probe.hits == 50
    assert faulty.finish()["wrong"] == 0


def test_without_restartable_sequences_counts_are_locked(builder, monkeypatch):
    from tests.victim import Victim

    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0")
    with Victim(builder.build("busy_threads")) as busy:
        with uprobes.attach(busy.pid) as target:
            probe = target.probe("busy_threads:work_*")
            assert "jump" in {site.mode for site in probe.sites}
            busy.order(20)
            busy.wait_line("rounds")
            counts = {site.symbol: site.hits for site in probe.sites}
        reports = busy.finish()
    assert counts == {name: calls for name, calls in reports.items() if name.startswith("work_")}


def test_a_target_that_can_open_no_file(victim):
    hot = victim("hot")
    resource.prlimit(hot.pid, resource.RLIMIT_NOFILE, (0, 4096))
    with uprobes.attach(hot.pid) as target:
        with pytest.raises(uprobes.ProbeRefused, match="shared memory"):
            target.probe("hot:hot", mode="jump")
        probe = target.probe("hot:hot")
        assert (probe.sites[0].mode, probe.sites[0].why_not_jump) == ("trap", Refusal.NO_BOARD)
        hot.order(10)
        hot.wait_line("ns")
        assert probe.hits == 10


def test_a_filtered_target_is_not_asked_for_calls(victim):
    filtered = victim("filtered")
    with uprobes.attach(filtered.pid) as target:
        probe = target.probe("filtered:hot")
        assert (probe.sites[0].mode, probe.sites[0].why_not_jump) == ("trap", Refusal.NO_BOARD)
        filtered.order(10)
        filtered.wait_line("done")
        assert probe.hits == 10


def test_a_callback_takes_the_site_over_and_no_count_is_lost(victim):
    hot = victim("hot")
    before = executable_text(hot.pid)
    with uprobes.attach(hot.pid) as target:
        probe = target.probe("hot:hot")
        assert probe.sites[0].mode == "jump"
        hot.order(1000)
        hot.wait_line("ns")
        seen = []

        @target.on("hot:hot")
        def note(hit):
            seen.append(hit.tid)

        assert (probe.sites[0].mode, probe.sites[0].why_not_jump) == ("trap", Refusal.OCCUPIED)
        hot.order(50)
        hot.wait_line("ns")
        assert (probe.hits, len(seen), note.probe.hits) == (1050, 50, 50)
        note.probe.remove()
        probe.remove()
        assert executable_text(hot.pid) == before
        again = target.probe("hot:hot")
        assert again.sites[0].mode == "jump"
        hot.order(7)
        hot.wait_line("ns")
        assert again.hits == 7
    assert executable_text(hot.pid) == before


def test_a_callback_wants_a_mode_that_stops(victim):
    hot = victim("hot")
    with uprobes.attach(hot.pid) as target, pytest.raises(uprobes.UprobeError, match="jumps stop nobody"):
        target.on("hot:hot", mode="jump")(lambda hit: None)
