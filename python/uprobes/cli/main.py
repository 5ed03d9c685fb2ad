"""The command itself: subcommands found by name, and every failure turned into one line and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

# Name, and the line that `uprobes --help` shows without importing the subcommand.
COMMANDS: Final = {
    "list": "Show the functions that a specification stands for.",
    "count": "Count how often places are reached.",
    "trace": "Print every call, with its arguments.",
    "record": "Record every hit, with chosen arguments and registers, as lines or a table.",
    "latency": "Show how long functions take, as a histogram.",
    "explain": "Show how a place would be probed, or why it cannot be.",
    "selftest": "Prove on this processor that instructions run out of line as in place.",
    "recover": "Put right what a killed tracer has left in a process.",
    "doctor": "Say what works on this machine, or for a process, and why.",
}


class LazyGroup(click.Group):
    """Imports a subcommand's module only when that subcommand runs: help has to come at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """Every name, in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The subcommand of that name; None makes click report it."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"uprobes.cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand. A reader of our output that leaves ends it well: there is nobody left to tell."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Python would complain once more when it flushes at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list in the help text, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="uprobes", message="%(prog)s %(version)s")
def command() -> None:
    """Probe running programs: no root, no agent, no recompile.

    A place is [PROVIDER:]MODULE:SYMBOL[+OFFSET], MODULE:0xADDRESS, 0xADDRESS or FILE.c:LINE. MODULE is a
    path, a soname or its stem (libc) and may be left out where the symbol is unique; * and ? are globs.

    Exit codes: 0 good, 1 failed, 2 usage, 77 permission.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command with `arguments` (default: those of the process) and leave with its exit code."""
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        # An int is the code that a subcommand gave to Context.exit().
        code = command.main(arguments, prog_name="uprobes", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", 1)
    except Exception as error:
        return _report(error)
    return code if isinstance(code, int) else 0


def _report(error: Exception) -> int:
    """Tell the failure in one line, or as a traceback where the variable UPROBES_DEBUG asks for it."""
    from uprobes.errors import UprobeError, exit_code

    if os.environ.get("UPROBES_DEBUG"):
        sys.excepthook(type(error), error, error.__traceback__)
        return exit_code(error)
    if isinstance(error, UprobeError):
        return _fail(str(error), exit_code(error))
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename is not None else ""
        return _fail(f"{place}{(error.strerror or str(error)).lower()}", exit_code(error))
    return _fail(f"{type(error).__name__}: {error}; hint: UPROBES_DEBUG=1 shows where", exit_code(error))


def _fail(message: str, code: int) -> int:
    click.echo(f"uprobes: {message}", err=True)
    return code

