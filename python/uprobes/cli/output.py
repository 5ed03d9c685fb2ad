"""What the user sees: JSON lines for programs, tables for people."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Columns of these names hold numbers and are set flush right.
NUMBERS: Final = frozenset({"calls", "from", "hits", "instructions", "lost", "share", "size", "stops a hit", "tid"})


def print_object(kind: str, **fields: Any) -> None:
    """One JSON object on one line; `kind` becomes its `type`. Flushed: the reader may be waiting."""
    sys.stdout.write(json.dumps({"type": kind} | fields, ensure_ascii=False, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table as wide as its content; on a pipe without colours or folding."""
    from rich.console import Console  # takes longer to import than all of ours
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in NUMBERS else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(f"{cell:,}" if isinstance(cell, int) else str(cell)) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=10_000)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        click.echo(line.rstrip())


def print_note(text: str) -> None:
    """Something beside the result: on standard error."""
    click.echo(text, err=True)


def plural(number: int, noun: str) -> str:
    """`1 site`, `2 sites`, `1,000 sites`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
