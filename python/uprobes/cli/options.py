"""Options that several subcommands share, and where the target's own command line begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])

PID_END: Final = 1 << 22
"""The kernel gives no higher numbers (PID_MAX_LIMIT)."""
MODES: Final = ("auto", "trap", "step")

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line, nothing else.")
mode_option = click.option(
    "--mode", type=click.Choice(MODES), default="auto", show_default=True, help="How a hit runs."
)
pid_option = click.option("-p", "--pid", type=click.IntRange(1, PID_END - 1), metavar="PID", help="A running process.")
duration_option = click.option(
    "--for",
    "duration",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Stop after this time; default: until Ctrl-C or the target's end.",
)
when_option = click.option(
    "--when", metavar="CONDITION", help="Only hits for which this holds, as 'arg2 > 4096 and i32(arg0) >= 0'."
)


class TargetCommand(click.Command):
    """A subcommand that may be followed by `-- COMMAND …`; those words arrive as the parameter `argv`."""

    def __init__(self, *args: Any, target_required: bool = True, **attributes: Any) -> None:
        """`target_required`: there must be -p PID or a command."""
        super().__init__(*args, **attributes)
        self.target_required = target_required

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep what follows the first `--` away from click, which would take it for our own arguments."""
        argv: list[str] | None = None
        if "--" in args:
            split = args.index("--")
            args, argv = args[:split], args[split + 1 :]
            if not argv:
                raise click.UsageError("no command follows --", ctx)
        rest = super().parse_args(ctx, args)
        if not ctx.resilient_parsing:
            targets = (argv is not None) + (ctx.params["pid"] is not None)
            if targets > 1 or (self.target_required and not targets):
                raise click.UsageError("say what to probe: either -p PID, or -- COMMAND …", ctx)
            ctx.params["argv"] = argv
        return rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Show where the target is named."""
        target = "-p PID | -- COMMAND …"
        return [*super().collect_usage_pieces(ctx), f"({target})" if self.target_required else f"[{target}]"]


def target_options(function: Function) -> Function:
    """The options of a subcommand that attaches to a target and serves it for a time."""
    for option in (json_option, duration_option, mode_option, pid_option):
        function = option(function)
    return function
