"""`uprobes trace`: every call as it happens."""

from __future__ import annotations

import click

from uprobes.cli.arguments import Call
from uprobes.cli.options import TargetCommand, target_options
from uprobes.cli.policy import Policy, policy_options
from uprobes.cli.printer import Printer
from uprobes.cli.session import open_session


@click.command("trace", cls=TargetCommand)
@click.argument("specs", nargs=-1, required=True, metavar="SPEC…")
@click.option(
    "--args", "count", type=click.IntRange(0, 12), default=3, show_default=True, metavar="N",
    help="Arguments to show, in hexadecimal, where a SPEC has no formats.",
)  # fmt: skip
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="Stop after N calls.")
@target_options
@policy_options
def command(
    specs: tuple[str, ...],
    pid: int | None,
    argv: list[str] | None,
    mode: str,
    duration: float | None,
    as_json: bool,
    policy: Policy,
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
    with open_session(pid, argv, duration, as_json, policy) as session:
        session.on([call.spec for call in calls], mode, [printer.callback(call) for call in calls])
        printer.start()
        session.serve()
    printer.finish()
    session.summarise(as_json, shown=printer.shown)
