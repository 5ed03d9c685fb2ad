"""Small files, named for what they hold, that tell nothing of the machine they were written on."""

import ast
import re

import pytest

from tests.quality.tree import ROOT, files, name, sources

MAX_LINES = 600
# As a part of a file's, class's or function's name; each says nothing about what is inside.
EMPTY_NAMES = {"hook", "inject", "magic", "misc", "util", "utils", "helper", "helpers", "manager", "info"}
ALL = ["uprobe_core", "python", "tests", "benchmarks", "demo", "docs", ".ci"]
TOP = [ROOT / file for file in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "setup.py")]
# Put together from pieces, so that this file does not hold them itself.
PRIVATE = re.compile(
    "|".join(["/" + "work/", "/" + "root/", "share" + r"d/[A-Z]", r"issues? #?\d", "TO" + "DO", "FIX" + "ME"])
)


@pytest.mark.parametrize("path", sources(*ALL), ids=name)
def test_file_is_short(path):
    lines = len(path.read_text().splitlines())
    assert lines <= MAX_LINES, f"{name(path)} has {lines} lines; hint: split it by concept"


@pytest.mark.parametrize("path", sources("uprobe_core", "python", "benchmarks", "demo"), ids=name)
def test_file_name_says_what_is_inside(path):
    assert not set(re.split(r"[^a-z]", path.stem.lower())) & EMPTY_NAMES


def _defined_names(path):
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
                yield node.name
    elif path.suffix in {".pyx", ".pxd"}:
        pattern = r"^\s*(?:c?p?def|cdef class|class)\b[^=\n]*?\b(\w+)\s*\("
        yield from re.findall(pattern, path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", sources("uprobe_core", "python", "benchmarks", "demo"), ids=name)
def test_definitions_say_what_they_are(path):
    for defined in _defined_names(path):
        parts = set(re.sub(r"([a-z])([A-Z])", r"\1_\2", defined).lower().split("_"))
        assert not parts & EMPTY_NAMES, f"{name(path)}: {defined}"


def test_text_names_no_machine_and_no_plan():
    for path in [*files(*ALL), *TOP]:
        if not path.exists() or path.suffix in {".so", ".png"}:
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = PRIVATE.search(line)
            assert not found, f"{name(path)}:{number}: {found and found.group()!r}"
