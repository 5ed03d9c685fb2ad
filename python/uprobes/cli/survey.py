"""`uprobes explain --all`: how every instruction of a file would be probed, counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from uprobes.cli.output import print_object, print_table
from uprobes.survey import survey_file
from uprobes.windows import jump_coverage

if TYPE_CHECKING:
    from uprobes.survey import Survey
    from uprobes.windows import Coverage

JUMP_COLUMNS = ("entries", "instructions", "no jump, because")
COLUMNS = ("instructions", "share", "stops a hit", "plan")


def explain_all(path: str, mode: str, as_json: bool) -> None:
    """Show the shares of plans and refusals of the file at `path`."""
    found = survey_file(path, mode=mode)
    coverage = jump_coverage(path)
    if as_json:
        _print_json(path, mode, found, coverage)
        return
    click.echo(
        f"{path}: {found.instructions:,} instructions, "
        f"{100 * found.share(found.one_stop):.3f} % need one stop a hit, "
        f"{100 * found.share(found.refused.total()):.3f} % are refused"
    )
    rows = [(row.count, f"{100 * found.share(row.count):.4f} %", row.stops or "", row.text) for row in found.rows]
    print_table(COLUMNS, rows)
    click.echo(
        f"by jump, no stop: {100 * coverage.share(coverage.entries):.3f} % of {coverage.entries.total():,} function "
        f"entries, {100 * coverage.share(coverage.instructions):.3f} % of instructions"
    )
    seen = coverage.instructions + coverage.entries
    refused = [refusal for refusal, _ in seen.most_common() if refusal]
    print_table(
        JUMP_COLUMNS,
        [(coverage.entries[each], coverage.instructions[each], each.sentence) for each in refused],
    )


def _print_json(path: str, mode: str, found: Survey, coverage: Coverage) -> None:
    print_object(
        "survey",
        path=path,
        mode=mode,
        instructions=found.instructions,
        one_stop=found.one_stop,
        one_stop_share=found.share(found.one_stop),
        plans={row.text: {"instructions": row.count, "stops": row.stops} for row in found.rows if row.stops},
        refusals={refusal.name.lower(): count for refusal, count in found.refused.most_common()},
        jump={
            name: {
                "total": counts.total(),
                "share": coverage.share(counts),
                "refusals": {each.name.lower(): count for each, count in counts.most_common() if each},
            }
            for name, counts in (("entries", coverage.entries), ("instructions", coverage.instructions))
        },
    )
