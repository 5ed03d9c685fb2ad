"""`uprobes selftest`: what this processor says about running instructions out of line."""

from __future__ import annotations

import click

from uprobes.cli.options import json_option
from uprobes.cli.output import print_object
from uprobes.errors import EXIT_FAILED, EXIT_GOOD
from uprobes.selftest import Report, SelfTest


@click.command("selftest")
@click.option("--forms", default=3000, show_default=True, metavar="N", type=click.IntRange(1), help="How many to try.")
@click.option("--seed", default=0, show_default=True, metavar="SEED", help="Which are drawn at random.")
@json_option
@click.pass_context
def command(context: click.Context, forms: int, seed: int, as_json: bool) -> None:
    """Prove on this processor that instructions run out of line as in place.

    Runs N instruction forms in a child process, natively and in every way that a probe would: the known hard ones
    first, then others drawn at random. All registers, flags and memory must be equal afterwards.

    \b
    uprobes selftest
    uprobes selftest --forms 30000 --seed 7
    """
    report = SelfTest(forms, seed).run()
    if as_json:
        _print_objects(report)
    else:
        click.echo("\n".join(report.lines))
    context.exit(EXIT_FAILED if report.failures else EXIT_GOOD)


def _print_objects(report: Report) -> None:
    for failure in report.failures:
        print_object("difference", bytes=failure.code.hex(), way=str(failure.variant), differences=failure.differences)
    print_object(
        "selftest",
        forms=report.forms,
        faulted=report.faulted,
        unsettled=report.unsettled,
        runs=dict(report.runs),
        interruptions=report.interruptions,
        refused={refusal.name.lower(): count for refusal, count in report.refused.items()},
        failures=len(report.failures),
    )
