"""The command's frame: help without heavy imports, errors in one line, exit codes."""

import subprocess
import sys

import click
import pytest

from tests.process import ENVIRONMENT
from uprobes.cli import main as frame
from uprobes.errors import NotPermitted, SpecError, TargetGone


def test_help_imports_nothing_heavy():
    """Help has to come at once; time itself is no measure in a test."""
    code = (
        "import sys\n"
        "from uprobes.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(*(name for name in ('rich', 'elftools', 'ptrace', 'uprobe_core') if name in sys.modules))\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_help_names_every_command(uprobes_cli):
    done = uprobes_cli("--help")
    assert done.returncode == 0
    for name, text in frame.COMMANDS.items():
        assert name in done.stdout
        assert text.split()[0] in done.stdout


@pytest.mark.parametrize("name", frame.COMMANDS)
def test_each_command_has_help_that_begins_like_the_list(uprobes_cli, name):
    done = uprobes_cli(name, "--help")
    assert done.returncode == 0
    first = frame.COMMANDS[name].rstrip(".").split(",")[0]
    assert first in " ".join(done.stdout.split())


@pytest.mark.parametrize("arguments", [["nonsense"], ["count"], ["count", "--nonsense"], ["--nonsense"]])
def test_usage_errors(uprobes_cli, arguments):
    done = uprobes_cli(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Usage:" in done.stderr


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (TargetGone(42), 1, "uprobes: cannot trace process 42: no such process"),
        (NotPermitted(42, "why", hint="do"), 77, "uprobes: cannot trace process 42: why; hint: do"),
        (SpecError("a:", 2, "fact"), 2, "uprobes: bad probe specification 'a:' at character 2: fact"),
        (FileNotFoundError(2, "No such file or directory", "/nowhere"), 1, "uprobes: /nowhere: no such file"),
        (ZeroDivisionError("division by zero"), 1, "uprobes: ZeroDivisionError: division by zero"),
        (KeyboardInterrupt(), 1, "uprobes: interrupted"),
        (click.UsageError("say what"), 2, "Error: say what"),
    ],
)
def test_failures_are_one_line_and_a_code(monkeypatch, capsys, error, code, text):
    def fail(*_args, **_options):
        raise error

    monkeypatch.delenv("UPROBES_DEBUG", raising=False)
    monkeypatch.setattr(frame.command, "main", fail)
    with pytest.raises(SystemExit) as end:
        frame.main(["count"])
    out, err = capsys.readouterr()
    assert end.value.code == code
    assert out == ""
    assert err.startswith(text)
    assert "Traceback" not in err


def test_debug_variable_shows_the_traceback(monkeypatch, capsys):
    def fail(*_args, **_options):
        raise ZeroDivisionError

    monkeypatch.setenv("UPROBES_DEBUG", "1")
    monkeypatch.setattr(frame.command, "main", fail)
    with pytest.raises(SystemExit) as end:
        frame.main([])
    assert end.value.code == 1
    assert "Traceback" in capsys.readouterr().err
