"""`uprobes latency`: how long functions take."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from uprobes.cli.options import TargetCommand, target_options, when_option
from uprobes.cli.output import plural, print_note, print_object, print_table
from uprobes.cli.session import open_session
from uprobes.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from uprobes.latency import Latency

PERCENTILES: Final = (50, 90, 99, 99.9)
BAR: Final = 40
SHOWN: Final = 20
WAIT_S: Final = 0.1
_UNITS: Final = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs"))


@click.command("latency", cls=TargetCommand)
@click.argument("specs", nargs=-1, required=True, metavar="SPEC…")
@when_option
@target_options
def command(
    specs: tuple[str, ...],
    pid: int | None,
    argv: list[str] | None,
    mode: str,
    duration: float | None,
    as_json: bool,
    when: str | None,
) -> None:
    """Show how long functions take, from entry to exit, as a histogram.

    Each exit is paired with the entry of its own frame: recursion, threads, exceptions and longjmp do not mix calls
    up. A condition is judged at the entry.

    \b
    uprobes latency -p 1234 --for 10 libc:write
    uprobes latency --when 'arg2 >= 1048576' libc:write -- dd if=/dev/zero of=/tmp/zeros bs=1M count=100
    """
    with open_session(pid, argv, duration, as_json) as session:
        latencies = session.time(specs, when, mode)
        session.serve_reading(_wait)
    functions: dict[str, Histogram] = {}
    for latency in latencies:
        for name, histogram in latency.functions.items():
            functions[name] = functions.get(name, Histogram()) + histogram
    (_print_objects if as_json else _print_histogram)(functions)
    if not as_json:
        _print_rest(latencies)
    session.summarise(as_json)


def _wait() -> bool:
    time.sleep(WAIT_S)
    return False


def _print_objects(functions: Mapping[str, Histogram]) -> None:
    """One object a function; buckets as [start, end, count] in nanoseconds."""
    for name, one in functions.items():
        points = {f"p{percent:g}": one.percentile(percent) for percent in PERCENTILES}
        facts = {"calls": one.count, "least_ns": one.least, "mean_ns": round(one.mean, 1), "most_ns": one.most}
        buckets = [list(row) for row in one.rows()]
        print_object("latency", function=name, **facts, percentiles_ns=points, buckets=buckets)


def _print_histogram(functions: Mapping[str, Histogram]) -> None:
    """A bar for each power of two, and a line of percentiles for each function, the one that took most time first."""
    total = sum(functions.values(), Histogram())
    octaves = total.octaves()
    largest = max((count for _, _, count in octaves), default=0)
    rows = [
        (_duration(start), _duration(end), count, "█" * max(1 if count else 0, round(BAR * count / largest)))
        for start, end, count in octaves
    ]
    if rows:
        print_table(["from", "to", "calls", ""], rows)
        click.echo()
    busiest = sorted(functions.items(), key=lambda item: -item[1].sum)[:SHOWN]
    columns = ["calls", "function", "least", *(f"p{percent:g}" for percent in PERCENTILES), "most", "total"]
    print_table(columns, [(one.count, name, *_points(one), _duration(one.sum)) for name, one in busiest])


def _points(one: Histogram) -> Sequence[str]:
    return [_duration(ns) for ns in (one.least, *map(one.percentile, PERCENTILES), one.most)]


def _print_rest(latencies: Sequence[Latency]) -> None:
    """What was seen and is no time."""
    unpaired = sum(latency.unpaired for latency in latencies)
    unfinished = sum(latency.unfinished for latency in latencies)
    if unpaired or unfinished:
        exits, calls = plural(unpaired, "exit"), plural(unfinished, "call")
        print_note(f"uprobes: not timed: {exits} without an entry, {calls} without an exit")


def _duration(ns: int) -> str:
    """`850 ns`, `1.23 ms`."""
    for size, unit in _UNITS:
        if ns >= size:
            return f"{ns / size:.3g} {unit}" if ns < 1000 * size else f"{ns / size:,.0f} {unit}"
    return f"{ns} ns"
