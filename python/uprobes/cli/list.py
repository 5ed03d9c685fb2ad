"""`uprobes list`: the modules of a process, and the functions that a specification stands for."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import click

import uprobes
from uprobes.cli.files import open_file
from uprobes.cli.options import TargetCommand, json_option, pid_option
from uprobes.cli.output import print_object, print_table
from uprobes.process import read_modules
from uprobes.resolve import resolve
from uprobes.spec import parse
from uprobes.symbols.locate import locate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from uprobes.symbols.location import Location


@click.command("list", cls=TargetCommand, target_required=False)
@click.argument("specs", nargs=-1, metavar="[SPEC…]")
@pid_option
@json_option
def command(specs: tuple[str, ...], pid: int | None, argv: list[str] | None, as_json: bool) -> None:
    """Show the functions that a specification stands for.

    Without a SPEC: the modules of the process. Without a process: the file that the SPEC names, as the dynamic
    linker finds it or by its path. A COMMAND is started, looked at with its libraries loaded, and ended before its
    first own instruction.

    \b
    uprobes list -p 1234
    uprobes list -p 1234 'libsqlite3:sqlite3_bind_*'
    uprobes list 'libc:*alloc'
    """
    if not specs and pid is None and argv is None:
        raise click.UsageError("say what to list: SPEC…, -p PID, or -- COMMAND …")
    with _started(argv) as started:
        pid = pid or started
        if specs:
            _print_functions(specs, pid, as_json)
        elif pid is not None:
            _print_modules(pid, as_json)


@contextmanager
def _started(argv: Sequence[str] | None) -> Iterator[int | None]:
    """The pid of a new process that stands at its entry point, ended with the block; None for no command."""
    if argv is None:
        yield None
        return
    with uprobes.spawn(list(argv)) as target:
        try:
            yield target.pid
        finally:
            os.kill(target.pid, signal.SIGKILL)
            with suppress(ProcessLookupError):
                target.run(timeout=5)


def _print_modules(pid: int, as_json: bool) -> None:
    modules = read_modules(pid)
    if as_json:
        for module in modules:
            print_object("module", pid=pid, name=module.name, path=module.path, bias=hex(module.bias))
        return
    print_table(["module", "path"], [(module.name, module.path) for module in modules])


def _print_functions(specs: Sequence[str], pid: int | None, as_json: bool) -> None:
    rows = [row for spec in specs for row in _functions(spec, pid)]
    if as_json:
        for address, location in rows:
            print_object(
                "function",
                pid=pid,
                module=location.module,
                symbol=location.symbol,
                offset=location.offset,
                address=hex(address),
                size=location.symbol_size,
                aliases=list(location.aliases),
            )
        return
    print_table(
        ["function", "size", "module", "address"],
        [(location.name, location.symbol_size, location.module_name, hex(address)) for address, location in rows],
    )


def _functions(spec: str, pid: int | None) -> Iterator[tuple[int, Location]]:
    """Address, in the process or else in the file, and what is known of it."""
    parsed = parse(spec)
    if pid is None:
        with open_file(parsed) as binary:
            for location in locate(parsed, binary):
                yield location.vaddr, location
        return
    for place in resolve(parsed, read_modules(pid), pid):
        if place.location is not None:
            yield place.vaddr, place.location
