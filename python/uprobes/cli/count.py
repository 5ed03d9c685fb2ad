"""`uprobes count`: how often each place is reached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from uprobes.cli.options import TargetCommand, target_options, when_option
from uprobes.cli.output import print_object, print_table
from uprobes.cli.policy import Policy, policy_options
from uprobes.cli.session import Session, open_session

if TYPE_CHECKING:
    from uprobes.probe import Site

SHOWN: Final = 20
"""Sites of which even those that were never reached are shown."""


@click.command("count", cls=TargetCommand)
@click.argument("specs", nargs=-1, required=True, metavar="SPEC…")
@when_option
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
    when: str | None,
) -> None:
    """Count how often places are reached.

    Every hit is counted, or told as lost where it would take too much (--budget).

    \b
    uprobes count -p 1234 libc:malloc 'libsqlite3:sqlite3_prep*'
    uprobes count --for 5 libc:read -- sort /etc/services
    """
    with open_session(pid, argv, duration, as_json, policy) as session:
        session.probe(specs, mode, when)
        session.serve()
    print_counts(session, as_json)
    session.summarise(as_json)


def print_counts(session: Session, as_json: bool) -> None:
    """One object a site, or a table, the busiest first; of many sites only those that were reached."""
    rows = [(pid, probe, site) for pid, probe in session.family_probes for site in probe.sites]
    if as_json:
        for pid, probe, site in rows:
            print_object("count", pid=pid, spec=str(probe.spec), **describe_site(site), hits=site.hits)
        return
    if len(rows) > SHOWN:
        rows = [row for row in rows if row[2].hits]
    rows.sort(key=lambda row: -row[2].hits)
    # Which process it was is only worth a column if there are several.
    several = len(session.target.family) > 1
    print_table(
        ["hits", *(["pid"] if several else []), "function", "module", "mode"],
        [
            (site.hits, *([str(pid)] if several else []), site.name, (site.module or "").rpartition("/")[2], site.mode)
            for pid, _, site in rows
        ],
    )


def describe_site(site: Site) -> dict[str, object]:
    """A site's facts for JSON; the address as text, since many readers keep only 53 bits of a number."""
    return {
        "module": site.module,
        "symbol": site.symbol,
        "offset": site.offset,
        "address": hex(site.address),
        "mode": site.mode,
        "refusal": site.refusal and site.refusal.name.lower(),
    }
