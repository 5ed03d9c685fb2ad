"""`uprobes recover`: put right what a killed tracer has left in a process."""

from __future__ import annotations

import click

from uprobes.cli.options import json_option, pid_option
from uprobes.cli.output import print_object
from uprobes.errors import EXIT_FAILED, EXIT_GOOD
from uprobes.recovery import Recovery, recover


@click.command("recover")
@pid_option
@json_option
@click.pass_context
def command(context: click.Context, pid: int | None, as_json: bool) -> None:
    """Put right what a killed tracer has left in a process, or in all processes.

    Every byte is compared with the program's file before it is put back. Attaching does the same by itself.

    \b
    uprobes recover
    uprobes recover -p 1234
    """
    done = recover(pid)
    for recovery in done:
        if as_json:
            print_object(
                "recovery", pid=recovery.pid, gone=recovery.gone, restored=recovery.restored, clean=recovery.clean,
                foreign=recovery.foreign, areas=recovery.areas, complete=recovery.complete,
            )  # fmt: skip
        else:
            _print(recovery)
    if not done and not as_json:
        where = "anywhere" if pid is None else f"in process {pid}"
        click.echo(f"no tracer that was killed has left anything {where}")
    context.exit(EXIT_GOOD if all(recovery.complete for recovery in done) else EXIT_FAILED)


def _print(recovery: Recovery) -> None:
    name = f"process {recovery.pid}"
    if recovery.gone:
        click.echo(f"{name}: it has ended, or runs another program; its journal was removed")
        return
    click.echo(
        f"{name}: {_count(recovery.restored, 'probe')} taken back, {recovery.clean} were not in place, "
        f"{_count(recovery.areas, 'area')} emptied"
    )
    for vaddr in recovery.foreign:
        click.echo(f"{name}: {vaddr:#x} has bytes that are neither the file's nor ours: left alone")
    if not recovery.complete:
        click.echo(f"{name}: a thread still waits in an area of ours, which stays; hint: uprobes recover again later")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
