"""How `uprobes trace` reads a call's arguments: `libc:open(%s, %d)`, with the letters of C's printf."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import click

from uprobes.errors import MemoryFault

if TYPE_CHECKING:
    from uprobes.hit import Hit

# Bytes of a string that are shown; longer ones end in an ellipsis.
STRING_LIMIT: Final = 64

# Only a list with a % is ours: a C++ name ends in a list of types.
_SPEC = re.compile(r"(?P<spec>.*?)\((?P<formats>[^()]*%[^()]*|\s*)\)\s*", re.DOTALL)

Value = int | str | None
Reader = Callable[["Hit", int], Value]


def _unsigned(bits: int) -> Reader:
    mask = (1 << bits) - 1
    return lambda hit, index: hit.args[index] & mask


def _signed(bits: int) -> Reader:
    sign, mask = 1 << (bits - 1), (1 << bits) - 1
    return lambda hit, index: ((hit.args[index] & mask) ^ sign) - sign


def _string(hit: Hit, index: int) -> Value:
    """The text, with what is not UTF-8 escaped; None where the pointer leads nowhere."""
    try:
        text = hit.memory.read_cstring(hit.args[index], STRING_LIMIT + 1)
    except MemoryFault:
        return None
    more = "…" if len(text) > STRING_LIMIT else ""
    return text[:STRING_LIMIT].decode(errors="backslashreplace") + more


def _show_string(value: Value) -> str:
    if value is None:
        return "?"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _show_hex(value: Value) -> str:
    return f"{value:#x}"


def _show_character(value: Value) -> str:
    return repr(chr(int(value or 0)))


# A format: how the value is read (it goes to JSON as it is), and how people see it.
FORMATS: Final[dict[str, tuple[Reader, Callable[[Value], str]]]] = {
    "%d": (_signed(32), str),
    "%u": (_unsigned(32), str),
    "%x": (_unsigned(32), _show_hex),
    "%c": (_unsigned(8), _show_character),
    "%ld": (_signed(64), str),
    "%lu": (_unsigned(64), str),
    "%lx": (_unsigned(64), _show_hex),
    "%zu": (_unsigned(64), str),
    "%zd": (_signed(64), str),
    "%p": (_unsigned(64), _show_hex),
    "%s": (_string, _show_string),
}


class Call:
    """A specification with the formats of its arguments."""

    def __init__(self, text: str, default: int) -> None:
        """`default` arguments are shown as pointers where the text has no list."""
        match = _SPEC.fullmatch(text)
        self.spec = match["spec"] if match else text
        words = match["formats"].split(",") if match and match["formats"].strip() else []
        self.formats = [word.strip() for word in words] if match else ["%p"] * default
        for word in self.formats:
            if word not in FORMATS:
                known = " ".join(FORMATS)
                raise click.UsageError(f"cannot read {text}: no such format {word!r}; hint: one of {known}")

    def values(self, hit: Hit) -> list[Value]:
        """The arguments of a call, read while it stands at the function's entry."""
        return [FORMATS[word][0](hit, index) for index, word in enumerate(self.formats)]

    def show(self, values: list[Value]) -> str:
        """The arguments as people see them."""
        return ", ".join(FORMATS[word][1](value) for word, value in zip(self.formats, values, strict=True))
