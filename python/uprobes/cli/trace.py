"""`uprobes trace`: every call as it happens."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from uprobes.cli.arguments import Call
from uprobes.cli.count import describe_site
from uprobes.cli.options import TargetCommand, target_options
from uprobes.cli.output import print_object
from uprobes.cli.session import SessionEnded, open_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from uprobes.hit import Hit


class Printer:
    """Prints hits, once it is started, until `limit` of them were printed (None: no limit)."""

    def __init__(self, as_json: bool, limit: int | None) -> None:
        """`limit` counts hits of all specifications together."""
        self.as_json = as_json
        self.limit = limit
        self.shown = 0
        self.first_ns: int | None = None
        self.started = False
        """Not before all probes are in: what ends the session must not come while it begins."""

    def callback(self, call: Call) -> Callable[[Hit], None]:
        """What to do at a hit of `call`."""

        def show(hit: Hit) -> None:
            if self.shown == self.limit or not self.started:
                return
            self.print_hit(call, hit)
            self.shown += 1
            if self.shown == self.limit:
                raise SessionEnded

        return show

    def print_hit(self, call: Call, hit: Hit) -> None:
        """One line for one call; times count from the first."""
        values = call.values(hit)
        if self.as_json:
            place = describe_site(hit.site)
            print_object("hit", spec=call.spec, **place, time_ns=hit.time_ns, tid=hit.tid, args=values)
            return
        if self.first_ns is None:
            self.first_ns = hit.time_ns
        seconds = (hit.time_ns - self.first_ns) / 1e9
        sys.stdout.write(f"{seconds:11.6f}  {hit.tid:>7}  {hit.site.name}({call.show(values)})\n")
        sys.stdout.flush()


@click.command("trace", cls=TargetCommand)
@click.argument("specs", nargs=-1, required=True, metavar="SPEC…")
@click.option(
    "--args", "count", type=click.IntRange(0, 12), default=3, show_default=True, metavar="N",
    help="Arguments to show, in hexadecimal, where a SPEC has no formats.",
)  # fmt: skip
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="Stop after N calls.")
@target_options
def command(
    specs: tuple[str, ...],
    pid: int | None,
    argv: list[str] | None,
    mode: str,
    duration: float | None,
    as_json: bool,
    count: int,
    limit: int | None,
) -> None:
    """Print every call, with its arguments: seconds since the first, thread, function and what it was given.

    A SPEC may end in formats for the arguments, with the letters of C's printf: %d %u %x %c of 32 bits,
    %ld %lu %lx %zd %zu %p of 64, %s for a string.

    \b
    uprobes trace -p 1234 'libc:open64(%s, %x)' 'libsqlite3:sqlite3_prepare_v2(%p, %s)'
    """
    calls = [Call(spec, count) for spec in specs]
    printer = Printer(as_json, limit)
    with open_session(pid, argv, duration, as_json) as session:
        session.on([call.spec for call in calls], mode, [printer.callback(call) for call in calls])
        printer.started = True
        session.serve()
    session.summarise(as_json, shown=printer.shown)
