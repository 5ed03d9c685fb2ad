"""`uprobes doctor`: what works on this machine, or for one process, and what stands in the way."""

from __future__ import annotations

import os
import platform
import subprocess
from typing import TYPE_CHECKING, Final, NamedTuple

import click

import uprobes
from uprobes.cli.options import json_option, pid_option
from uprobes.cli.output import print_object
from uprobes.errors import EXIT_FAILED, EXIT_GOOD, EXIT_PERMISSION, NotPermitted, UprobeError
from uprobes.permission import Check, Verdict, examine
from uprobes.situation import CAP_SYS_PTRACE, read_situation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uprobes.situation import Situation

WORDS: Final = {Verdict.FINE: "ok", Verdict.NOTE: "note", Verdict.LIMITED: "limited", Verdict.BLOCKED: "no"}
# Blocked by what the process is, and not by missing rights.
HOPELESS: Final = frozenset({Check.LIFE, Check.KIND, Check.BITS})


class Line(NamedTuple):
    """One finding as it is shown."""

    check: str
    verdict: Verdict
    fact: str
    hint: str | None = None
    code: int = EXIT_PERMISSION
    """The exit code if it is what stands in the way."""


@click.command("doctor")
@pid_option
@json_option
@click.pass_context
def command(context: click.Context, pid: int | None, as_json: bool) -> None:
    """Say what works on this machine, or for a process, and why.

    Looks only; but without -p it traces one short-lived child of its own, to see whether that works.

    \b
    uprobes doctor
    uprobes doctor -p 1234
    """
    lines = list(_examine_machine() if pid is None else _examine_process(pid))
    for line in lines:
        if as_json:
            fields = {"check": line.check, "verdict": WORDS[line.verdict], "good": line.verdict is not Verdict.BLOCKED}
            print_object("finding", pid=pid, **fields, fact=line.fact, hint=line.hint)
        else:
            _print(line)
    context.exit(max((line.code for line in lines if line.verdict is Verdict.BLOCKED), default=EXIT_GOOD))


def _print(line: Line) -> None:
    click.echo(f"{WORDS[line.verdict]:<8} {line.check:<14} {line.fact}")
    if line.hint:
        click.echo(f"{'':<8} {'':<14} hint: {line.hint}")


def _examine_process(pid: int) -> Iterator[Line]:
    for finding in examine(pid):
        code = EXIT_FAILED if finding.check in HOPELESS else EXIT_PERMISSION
        yield Line(finding.check, finding.verdict, finding.fact, finding.hint, code)


def _examine_machine() -> Iterator[Line]:
    here = read_situation(os.getpid())
    yield _examine_system()
    yield _examine_rights(here)
    yield _examine_yama(here.yama)
    yield _examine_trial()


def _examine_system() -> Line:
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        return Line("system", Verdict.BLOCKED, f"this is {system} on {machine}; only Linux on x86-64 works", code=1)
    return Line("system", Verdict.FINE, f"Linux {platform.release()} on x86-64")


def _examine_rights(here: Situation) -> Line:
    if here.ours.effective & CAP_SYS_PTRACE:
        return Line("rights", Verdict.FINE, "we have CAP_SYS_PTRACE: processes of every user can be traced")
    user = here.ours.uids[0]
    return Line("rights", Verdict.FINE, f"processes of user {user} can be traced; use sudo for those of others")


def _examine_yama(scope: int | None) -> Line:
    if scope is None:
        return Line("yama", Verdict.FINE, "this kernel has no Yama, which could forbid tracing")
    facts = {
        0: (Verdict.FINE, "kernel.yama.ptrace_scope is 0: running processes can be attached to"),
        1: (Verdict.LIMITED, "kernel.yama.ptrace_scope is 1: without root only what uprobes starts can be traced"),
        2: (Verdict.LIMITED, "kernel.yama.ptrace_scope is 2: only root can trace"),
    }
    hints = {1: "uprobes count … -- COMMAND, or: sudo sysctl kernel.yama.ptrace_scope=0", 2: "use sudo"}
    verdict, fact = facts.get(scope, (Verdict.BLOCKED, f"kernel.yama.ptrace_scope is {scope}: nobody can trace"))
    return Line("yama", verdict, fact, hints.get(scope))


def _examine_trial() -> Line:
    """Attaching to a child, in earnest: what no reading of settings can tell."""
    child = subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL)  # noqa: S607 (any PATH has it)
    try:
        uprobes.attach(child.pid).detach()
    except NotPermitted as error:
        return Line("ptrace", Verdict.BLOCKED, str(error))
    except UprobeError as error:
        return Line("ptrace", Verdict.BLOCKED, str(error), code=EXIT_FAILED)
    finally:
        child.kill()
        child.wait()
    return Line("ptrace", Verdict.FINE, "a child of ours was attached to and let go")
