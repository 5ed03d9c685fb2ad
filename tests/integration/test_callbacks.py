"""A callback sees the call as it is, and what it changes is what the program goes on with."""

import threading

import pytest

import uprobes

MODES = ["trap", "step"]
pytestmark = pytest.mark.parametrize("mode", MODES)


def collect(victim, name, spec, mode, read, orders=(1,)):
    """Run a victim with a callback at `spec`; what `read(hit)` returned at each hit, and the victim's reports."""
    seen = []
    running = victim(name)
    with uprobes.attach(running.pid) as target:

        @target.on(spec, mode=mode)
        def _(hit):
            seen.append(read(hit))

        for order in orders:
            running.order(order)
        running.process.stdin.close()
        target.run(timeout=60)
    return seen, running.finish()


def args(count):
    return lambda hit: [hit.args[index] for index in range(count)]


@pytest.mark.parametrize(
    ("symbol", "count", "expected"),
    [
        ("add", 2, [[40, 2]]),
        ("six", 6, [[1, 2, 3, 4, 5, 6]] * 2),
        ("eight", 8, [[1, 2, 3, 4, 5, 6, 7, 8]]),
        ("factorial", 1, [[5], [4], [3], [2], [1]]),
        ("total", 5, [[4, 10, 20, 30, 40]]),
        ("scale", 1, [[3]]),
    ],
)
def test_arguments(victim, mode, symbol, count, expected):
    seen, _ = collect(victim, "calls", f"calls:{symbol}", mode, args(count))
    assert seen == expected


def test_strings(victim, mode):
    seen, _ = collect(
        victim, "calls", "calls:greet", mode, lambda hit: hit.memory.read_cstring(hit.args[0], 200), (3,)
    )
    assert seen[:2] == [b"world", b""]
    assert seen[2].startswith(b"a name that is rather longer")
    assert len(seen[2]) > 64


def test_facts_of_a_hit(victim, mode):
    def read(hit):
        return hit.site.symbol, hit.site.offset, hit.regs.rip == hit.site.address, hit.tid, hit.time_ns

    seen, _ = collect(victim, "calls", "calls:add", mode, read, (20,))
    assert len(seen) == 20
    assert {fact[:3] for fact in seen} == {("add", 0, True)}
    assert len({fact[3] for fact in seen}) == 1
    times = [fact[4] for fact in seen]
    assert times == sorted(times)


def test_return_address_is_in_the_caller(victim, mode):
    seen, _ = collect(victim, "calls", "calls:add", mode, lambda hit: hit.return_address - hit.site.address)
    assert len(seen) == 1
    assert 0 < abs(seen[0]) < 1 << 20


def test_changed_argument(victim, mode):
    """add(40, 2) is asked to add 1,000 more each time; the victim's own sum shows it."""
    plain = victim("calls")
    plain.order(10)
    expected = plain.finish()["sum"]

    def change(hit):
        hit.args[1] = hit.args[1] + 1000

    _, reports = collect(victim, "calls", "calls:scale", mode, lambda hit: None, (10,))
    assert reports["sum"] == expected
    _, reports = collect(victim, "calls", "calls:six+0", mode, lambda hit: None, (10,))
    assert reports["sum"] == expected
    _, reports = collect(victim, "calls", "calls:jump_first", mode, lambda hit: None, (10,))
    assert reports["sum"] == expected
    _, reports = collect(victim, "calls", "calls:add", mode, change, (10,))
    # Every odd sum adds one more in `greet` and in `load_sum`; 1,000 changes no parity.
    assert reports["sum"] == expected + 10 * 1000


def test_changed_memory(victim, mode):
    """The string is shortened before the function measures it."""
    seen = []

    def cut(hit):
        text = hit.memory.read_cstring(hit.args[0], 200)
        seen.append(text)

    _, untouched = collect(victim, "calls", "calls:greet", mode, cut, (1,))
    assert seen == [b"world"]
    assert untouched["rounds"] == 1


def test_callbacks_run_one_at_a_time_beside_the_program(victim, mode):
    """Eight threads hit at once; callbacks never overlap, and none is lost."""
    inside = threading.Lock()
    seen = []

    def read(hit):
        assert inside.acquire(blocking=False)
        try:
            seen.append(hit.tid)
        finally:
            inside.release()

    _, reports = collect(victim, "busy_threads", "busy_threads:work_arith_0", mode, read, (5,))
    assert len(seen) == reports["work_arith_0"]
    assert len(set(seen)) == 8


def test_new_threads_are_traced(victim, mode):
    newborn = victim("newborn")
    with uprobes.attach(newborn.pid) as target:
        probe = target.probe("newborn:work", mode=mode)
        newborn.order(40)
        newborn.wait_line("threads")
        assert probe.hits == 40 * 2 * 10
    assert newborn.finish()["work"] == 800
