"""How a session deals with its target: children, what is loaded later, and what hits may cost."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from uprobes.cli.options import Function

ATTACHED_BUDGET: Final = 10.0
"""Per cent of a running program's time that hits may take unless the user says otherwise. What we start ourselves has
no limit: it is run to be measured."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the options say."""

    children: str = "clean"
    pending: bool = False
    budget: float | None = None
    """Per cent; None: not said."""

    def share(self, *, attached: bool) -> float | None:
        """The budget as ``attach()`` and ``spawn()`` take it."""
        per_cent = (ATTACHED_BUDGET if attached else 0.0) if self.budget is None else self.budget
        return per_cent / 100 if per_cent else None


_OPTIONS: Final[tuple[Callable[[Any], Any], ...]] = (
    click.option(
        "--children", type=click.Choice(("clean", "follow")), default="clean", show_default=True,
        help="What becomes of the target's children: left without probes, or probed and counted each for itself.",
    ),
    click.option("--follow", is_flag=True, help="The same as --children follow."),
    click.option("--pending", is_flag=True, help="Places may come later: in libraries, or programs that are executed."),
    click.option(
        "--budget", type=click.FloatRange(0, 100), metavar="PERCENT",
        help="Of the target's time that hits may take; over it, hot places are switched off for a while. 0: no limit. "
        f"Default: {ATTACHED_BUDGET:g} with -p, no limit with a command.",
    ),
)  # fmt: skip


def policy_options(function: Function) -> Function:
    """The options; their values arrive as the parameter `policy`."""

    @functools.wraps(function)
    def gather(*, children: str, follow: bool, pending: bool, budget: float | None, **others: Any) -> Any:
        policy = Policy("follow" if follow else children, pending, budget)
        return function(policy=policy, **others)

    command: Any = gather
    for option in reversed(_OPTIONS):
        command = option(command)
    return command  # type: ignore[no-any-return]
