"""The commands and programs that the documents show."""

import re
import shlex
from typing import NamedTuple

from tests.quality.tree import ROOT

DOCUMENTS = ["README.md", "CONTRIBUTING.md", "docs/tutorial.md", "docs/architecture.md"]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a document."""

    document: str
    line: int
    language: str
    text: str


def blocks(language: str) -> list[Block]:
    """Every block in that language."""
    found = []
    for document in DOCUMENTS:
        path = ROOT / document
        text = path.read_text() if path.exists() else ""
        found += [
            Block(document, text.count("\n", 0, match.start()) + 2, match[1], match[2])
            for match in _BLOCK.finditer(text)
            if match[1] == language
        ]
    return found


class Shown(NamedTuple):
    """A command that a document shows after a `$`, and the lines of output under it."""

    document: str
    line: int
    words: list[str]
    output: list[str]


def commands() -> list[Shown]:
    """Every command of every console block; its output goes on to an empty line."""
    found: list[Shown] = []
    for block in blocks("console"):
        output: list[str] = []
        for offset, line in enumerate(block.text.splitlines()):
            if line.startswith("$ "):
                output = []
                words = shlex.split(line[2:], comments=True)
                found.append(Shown(block.document, block.line + offset, words, output))
            elif line:
                output.append(line)
            else:
                output = []
    return found
