"""Error messages begin in lower case, end without a full stop, and never shout."""

import ast

import pytest

from tests.quality.tree import name, sources

# Words that keep their capitals wherever they stand.
PROPER = ("ELF", "DWARF", "USDT", "PTRACE_", "SIG", "CAP_", "NoneType", "Linux", "Python", "Yama", "UTF-8")


def _text(node):
    """The literal text of a string or f-string, {} for what is filled in; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def _messages(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            for argument in node.exc.args:
                text = _text(argument)
                if text:
                    yield node.lineno, text


@pytest.mark.parametrize("path", [p for p in sources("python") if p.suffix == ".py"], ids=name)
def test_message_form(path):
    for line, text in _messages(path):
        place = f"{name(path)}:{line}: {text!r}"
        assert not text[0].isupper() or text.startswith(PROPER), place
        assert not text.rstrip().endswith((".", "!")), place
