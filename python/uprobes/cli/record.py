"""`uprobes record`: what was asked for at every hit, in order of time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from uprobes.cli.count import describe_site
from uprobes.cli.options import TargetCommand, target_options, when_option
from uprobes.cli.output import print_object
from uprobes.cli.session import open_session
from uprobes.errors import UprobeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uprobes.batch import Batch, Record

FORMATS = (".arrow", ".parquet")
WAIT_S = 0.05


class Writer(Protocol):
    """Where batches go."""

    def write(self, batch: Batch) -> None:
        """Take a batch."""

    def finish(self) -> None:
        """There are no more."""


class Lines:
    """A line a record; times count from the first."""

    def __init__(self) -> None:
        """Nothing was printed yet."""
        self._first_ns: int | None = None

    def write(self, batch: Batch) -> None:
        """Print a batch."""
        for record in batch:
            if self._first_ns is None:
                self._first_ns = record.time_ns
            seconds = (record.time_ns - self._first_ns) / 1e9
            fields = "".join(
                f"  {name}={'?' if value is None else hex(value)}" for name, value in fields_of(record).items()
            )
            sys.stdout.write(f"{seconds:14.9f}  {record.tid:>7}  {record.site.name}{fields}\n")
        sys.stdout.flush()

    def finish(self) -> None:
        """All is printed."""


class Objects:
    """A JSON object a record."""

    def __init__(self) -> None:
        """Nothing was printed yet."""
        self._places: dict[int, dict[str, Any]] = {}

    def write(self, batch: Batch) -> None:
        """Print a batch."""
        for record in batch:
            address = record.site.address
            if address not in self._places:
                self._places[address] = describe_site(record.site)
            fields = fields_of(record)
            print_object("record", time_ns=record.time_ns, tid=record.tid, **self._places[address], fields=fields)

    def finish(self) -> None:
        """All is printed."""


class Table:
    """A file with all records, by the end of its name an Arrow or a Parquet one."""

    def __init__(self, path: Path, fields: Sequence[str]) -> None:
        """UprobeError where pyarrow is not installed: told before anything is probed."""
        from uprobes.arrow import import_pyarrow

        import_pyarrow()
        self._path = path
        self._fields = fields
        self._batches: list[Batch] = []

    def write(self, batch: Batch) -> None:
        """Keep a batch."""
        self._batches.append(batch)

    def finish(self) -> None:
        """Write the file."""
        from uprobes.arrow import make_table, write_table

        write_table(make_table(self._batches, self._fields), self._path)


def fields_of(record: Record) -> dict[str, int | None]:
    """A record's fields by name."""
    return dict(zip(record.names, record.values, strict=True))


def check_output(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path | None:
    """Refuse a file that could not be written, before anything is probed."""
    if value is not None and value.suffix not in FORMATS:
        raise click.BadParameter(f"the name has to end in {' or '.join(FORMATS)}")
    if value is not None and not value.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no directory {value.parent}")
    return value


@click.command("record", cls=TargetCommand)
@click.argument("specs", nargs=-1, required=True, metavar="SPEC…")
@click.option(
    "-f", "--field", "fields", multiple=True, metavar="NAME",
    help="Keep this of each hit: arg0 …, a register as rdi, retval, stack0 …; once for each.",
)  # fmt: skip
@when_option
@click.option("--every", type=click.IntRange(min=1), default=1, metavar="N", help="Keep one hit in N.")
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="Stop after N records.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), callback=check_output, metavar="FILE",
    help="Write a table to FILE.arrow or FILE.parquet instead of printing; needs pyarrow.",
)  # fmt: skip
@target_options
def command(
    specs: tuple[str, ...],
    pid: int | None,
    argv: list[str] | None,
    mode: str,
    duration: float | None,
    as_json: bool,
    fields: tuple[str, ...],
    when: str | None,
    every: int,
    limit: int | None,
    output: Path | None,
) -> None:
    """Record every hit: time, thread, place, and chosen arguments, registers or words of the stack.

    No thread of the target waits for a reader: hits go to rings in memory; what finds its ring full is counted as lost.

    \b
    uprobes record -p 1234 libc:write -f arg0 -f arg2 --when 'arg2 > 4096'
    uprobes record --for 10 -f arg0 -o mallocs.parquet libc:malloc -- sort /etc/services
    """
    writer: Writer = Objects() if as_json else Lines()
    if output is not None:
        writer = Table(output, fields)
    shown = 0
    with open_session(pid, argv, duration, as_json) as session:
        recording = session.record(specs, fields, when, mode, every, limit)

        def step() -> bool:
            nonlocal shown
            batch = recording.read(timeout=WAIT_S)
            if batch is not None:
                shown += len(batch)
                writer.write(batch)
            return limit is not None and shown >= limit

        session.serve_reading(step)
    while (batch := recording.read(timeout=None)) is not None:
        shown += len(batch)
        writer.write(batch)
    try:
        writer.finish()
    except OSError as error:
        raise UprobeError(f"cannot write {output}: {error.strerror or error}") from None
    session.summarise(as_json, shown=shown)
