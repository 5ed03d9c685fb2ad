"""`uprobes explain --all`: how every instruction of a file would be probed, counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from uprobes.cli.output import print_object, print_table
from uprobes.survey import survey_file

if TYPE_CHECKING:
    from uprobes.survey import Survey

COLUMNS = ("instructions", "share", "stops a hit", "plan")


def explain_all(path: str, mode: str, as_json: bool) -> None:
    """Show the shares of plans and refusals of the file at `path`."""
    found = survey_file(path, mode=mode)
    if as_json:
        _print_json(path, mode, found)
        return
    click.echo(
        f"{path}: {found.instructions:,} instructions, "
        f"{100 * found.share(found.one_stop):.3f} % need one stop a hit, "
        f"{100 * found.share(found.refused.total()):.3f} % are refused"
    )
    rows = [(row.count, f"{100 * found.share(row.count):.4f} %", row.stops or "", row.text) for row in found.rows]
    print_table(COLUMNS, rows)


def _print_json(path: str, mode: str, found: Survey) -> None:
    print_object(
        "survey",
        path=path,
        mode=mode,
        instructions=found.instructions,
        one_stop=found.one_stop,
        one_stop_share=found.share(found.one_stop),
        plans={row.text: {"instructions": row.count, "stops": row.stops} for row in found.rows if row.stops},
        refusals={refusal.name.lower(): count for refusal, count in found.refused.most_common()},
    )
