"""What the documents show is what happens: their commands and programs are run."""

import json
import re
import subprocess
import sys

import pytest

from tests.process import COMMAND, ENVIRONMENT
from tests.quality.documents import DOCUMENTS, Shown, blocks, commands
from tests.quality.tree import ROOT

PID = "16274"  # the process of every example
SHORT = "0.2"  # seconds, instead of what an example says
LINK = re.compile(r"\[[^\]]+\]\((?!https?:)([^)#]+)")
MAKE = re.compile(r"^(?:    |\$ )(make \w+)", re.MULTILINE)


@pytest.fixture(scope="module")
def workload():
    """The program that the documents look into."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "demo" / "workload.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    yield process
    process.stdin.close()
    assert process.wait(60) == 0, "the workload found a wrong result"
    process.stdout.close()


def shape(lines: list[str]) -> list[str]:
    """The first word of each line that has one, where it is a word: columns and labels, no figures."""
    first = (line.split()[0].rstrip(":") for line in lines if line.strip())
    return [word for word in dict.fromkeys(first) if word.isalpha()]


def kinds(lines: list[str]) -> list[str]:
    """The types of the JSON objects among them."""
    return [json.loads(line)["type"] for line in lines if line.startswith("{")]


def run(shown: Shown, pid: int) -> subprocess.CompletedProcess[str]:
    words = [str(pid) if word == PID else word for word in shown.words[1:]]
    if "--for" in words:
        words[words.index("--for") + 1] = SHORT
    return subprocess.run(
        [*COMMAND, *words], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
    )


USES = [shown for shown in commands() if shown.words[0] == "uprobes"]


@pytest.mark.parametrize("shown", USES, ids=lambda shown: f"{shown.document}:{shown.line}")
def test_command_gives_what_is_shown(shown, workload):
    done = run(shown, workload.pid)
    refused = any(line.lstrip().startswith("refused") for line in shown.output)
    assert done.returncode == (1 if refused else 0), done.stdout
    expected = shape(shown.output)
    if "count" in shown.words and "--json" not in shown.words:
        expected = ["uprobes", "hits"]
    if "--" in shown.words:
        expected = ["uprobes"]  # the rest is the command's own, of this machine
    assert [word for word in shape(done.stdout.splitlines()) if word in expected] == expected, done.stdout
    if "--json" in shown.words:
        assert kinds(done.stdout.splitlines()) == kinds(shown.output)


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: f"{block.document}:{block.line}")
def test_program_runs(block, workload):
    text = block.text.replace(PID, str(workload.pid))
    done = subprocess.run(
        [sys.executable, "-c", text], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    path = ROOT / document
    for link in LINK.findall(path.read_text()):
        assert (path.parent / link).exists(), link


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_knows_the_targets(document):
    for command in MAKE.findall((ROOT / document).read_text()):
        subprocess.run([*command.split(), "--dry-run", "VENV=/nonexistent"], cwd=ROOT, check=True, capture_output=True)


def test_documents_show_commands():
    assert {shown.document for shown in commands()} >= {"README.md", "docs/tutorial.md"}
