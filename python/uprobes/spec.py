"""What the user says: the text of a probe specification, and the value that it stands for.

::

    [PROVIDER:][MODULE:]SYMBOL[+OFFSET]     a function, or an instruction in it
    [PROVIDER:]MODULE:0xADDRESS             a virtual address of the ELF file itself
    [PROVIDER:]0xADDRESS                    an address in the process
    [MODULE:]FILE.c:LINE                    a source line, by its debug information
    usdt:[MODULE:]PROVIDER:NAME             a static marker (SystemTap's sys/sdt.h)

PROVIDER is ``uprobe`` (the default), ``uretprobe`` or ``usdt``. MODULE is a path, a soname or its stem
(``/usr/lib/libc.so.6``, ``libc.so.6``, ``libc``). OFFSET is decimal or ``0x`` hexadecimal, in bytes. MODULE,
SYMBOL, the marker's provider and its NAME may be globs: ``*``, ``?`` and ``[...]``.

A single colon separates; ``::`` is part of a name. MODULE may contain colons if it is a path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, NoReturn

from uprobes.errors import SpecError

ADDRESS_END = 1 << 64
OFFSET_END = 1 << 31
LINE_END = 1 << 31

_SEPARATOR = re.compile(r"(?<!:):(?!:)")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_OFFSET = re.compile(r"0x[0-9a-fA-F]+|[0-9]+", re.ASCII)
_LINE = re.compile(r"[0-9]+", re.ASCII)
_GLOB = re.compile(r"[*?[]")

FORMS = "MODULE:SYMBOL[+OFFSET], MODULE:0xADDRESS, 0xADDRESS, FILE.c:LINE or usdt:MODULE:PROVIDER:NAME"


class Provider(StrEnum):
    """What is probed: an instruction, a function's return, or a static marker."""

    UPROBE = "uprobe"
    URETPROBE = "uretprobe"
    USDT = "usdt"


class Kind(StrEnum):
    """Which of the forms a specification has."""

    SYMBOL = "symbol"
    ADDRESS = "address"
    LINE = "line"
    MARKER = "marker"


def is_glob(text: str) -> bool:
    """Whether `text` has a character that a glob gives a meaning."""
    return _GLOB.search(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSpec:
    """What the user says, taken apart. ``str()`` gives the text back; ``parse(str(spec)) == spec``.

    Exactly one of `symbol`, `address`, `file` and `marker` is set. A value that no text could stand for
    raises :class:`~uprobes.errors.SpecError`.
    """

    provider: Provider = Provider.UPROBE
    module: str | None = None
    symbol: str | None = None
    offset: int = 0
    """Bytes from the symbol's start."""
    address: int | None = None
    """With a module the file's own virtual address, without one an address in the process."""
    file: str | None = None
    line: int | None = None
    """Counted from 1."""
    namespace: str | None = None
    """The marker's provider: the first argument of its STAP_PROBE."""
    marker: str | None = None

    def __post_init__(self) -> None:
        """Reject what no text could stand for, so that text and value are one to one."""
        text = str(self)
        if _read(text) != {name: getattr(self, name) for name in self.__slots__}:
            raise SpecError(text, 0, "the parts do not fit together", hint=f"write {FORMS}")

    @property
    def kind(self) -> Kind:
        """Which form it has."""
        if self.marker is not None:
            return Kind.MARKER
        if self.line is not None:
            return Kind.LINE
        return Kind.SYMBOL if self.symbol is not None else Kind.ADDRESS

    @property
    def is_glob(self) -> bool:
        """Whether it may stand for many places on purpose."""
        return any(map(is_glob, filter(None, (self.module, self.symbol, self.namespace, self.marker))))

    def __str__(self) -> str:
        """The text, in its shortest form."""
        provider = "" if self.provider is Provider.UPROBE else f"{self.provider}:"
        rest = self._place() if self.module is None else f"{self.module}:{self._place()}"
        if not provider and rest.partition(":")[0] in _PROVIDERS:
            provider = f"{Provider.UPROBE}:"
        return provider + rest

    def _place(self) -> str:
        if self.marker is not None:
            return f"{self.namespace}:{self.marker}"
        if self.line is not None:
            return f"{self.file}:{self.line}"
        if self.symbol is None:
            return f"{self.address or 0:#x}"
        return f"{self.symbol}+{self.offset:#x}" if self.offset else self.symbol


_PROVIDERS = frozenset(Provider)


def parse(text: str) -> ProbeSpec:
    """The specification that `text` stands for; :class:`~uprobes.errors.SpecError` where there is none."""
    return ProbeSpec(**_read(text))


class _Part(NamedTuple):
    """A piece of the text and where it starts."""

    start: int
    text: str


def _read(text: str) -> dict[str, Any]:
    """The fields of a ProbeSpec, unchecked against each other."""
    return _Reader(text).fields()


class _Reader:
    """One pass over one text, from its last part to its first: only a module can contain a separator."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.parts = self._split()

    def fail(self, position: int, fact: str, hint: str | None = None) -> NoReturn:
        raise SpecError(self.text, position, fact, hint=hint or f"write {FORMS}")

    def _split(self) -> list[_Part]:
        if not self.text.strip():
            self.fail(0, "it is empty")
        if bad := _UNPRINTABLE.search(self.text.rstrip()):
            self.fail(bad.start(), f"control character {bad[0]!r}")
        parts = []
        start = 0
        for piece in _SEPARATOR.split(self.text):
            text = piece.strip()
            if not text or text[0] == ":" or text[-1] == ":":
                self.fail(start, "a name is missing beside the colon")
            parts.append(_Part(start + piece.index(text), text))
            start += len(piece) + 1
        return parts

    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = dict.fromkeys(ProbeSpec.__slots__)
        fields["offset"] = 0
        fields["provider"] = self._take_provider()
        last = self.parts.pop()
        if fields["provider"] is Provider.USDT:
            fields["namespace"], fields["marker"] = self._take_marker_provider(last), last.text
        elif _LINE.fullmatch(last.text):
            fields["file"], fields["line"] = self._take_file(last, fields["provider"])
        elif last.text.startswith("0x"):
            fields["address"] = self._address(last)
        else:
            fields["symbol"], fields["offset"] = self._symbol(last)
            if fields["offset"] and fields["provider"] is Provider.URETPROBE:
                self.fail(last.start, "a return has no offset", "leave +OFFSET out, or use uprobe:")
        fields["module"] = self._take_module()
        return fields

    def _take_provider(self) -> Provider:
        first = self.parts[0].text
        if first not in _PROVIDERS:
            return Provider.UPROBE
        if len(self.parts) == 1:
            self.fail(self.parts[0].start + len(first), f"nothing follows the provider {first}")
        self.parts.pop(0)
        return Provider(first)

    def _take_marker_provider(self, name: _Part) -> str:
        if not self.parts:
            self.fail(name.start, "a marker has two names", "write usdt:MODULE:PROVIDER:NAME")
        return self.parts.pop().text

    def _take_file(self, line: _Part, provider: Provider) -> tuple[str, int]:
        if not self.parts:
            self.fail(line.start, f"{line.text} is a line of no file", "write FILE.c:LINE, or 0xADDRESS")
        if provider is Provider.URETPROBE:
            self.fail(line.start, "a line does not return", "name the function, or use uprobe:")
        return self.parts.pop().text, self._number(line, LINE_END, "line", first=1)

    def _address(self, part: _Part) -> int:
        if not _ADDRESS.fullmatch(part.text):
            bad = re.search(r"[^0-9a-fA-F]|$", part.text[2:])
            self.fail(part.start + 2 + (bad.start() if bad else 0), "a hexadecimal digit is missing or wrong")
        return self._number(part, ADDRESS_END, "address")

    def _symbol(self, part: _Part) -> tuple[str, int]:
        name, plus, offset = part.text.rpartition("+")
        if not plus:
            return part.text, 0
        at = part.start + len(name) + 1
        if not name.strip():
            self.fail(part.start, "no symbol stands before the offset")
        if not _OFFSET.fullmatch(offset):
            self.fail(at, f"the offset {offset!r} is not a number", "write +16 or +0x10")
        return name.rstrip(), self._number(_Part(at, offset), OFFSET_END, "offset")

    def _number(self, part: _Part, end: int, what: str, first: int = 0) -> int:
        # int() itself refuses a decimal of thousands of digits with an error of another kind
        value = end if len(part.text) > 32 else int(part.text, 16 if part.text.startswith("0x") else 10)
        if not first <= value < end:
            self.fail(part.start, f"the {what} {part.text[:32]} is not between {first} and {end - 1:#x}")
        return value

    def _take_module(self) -> str | None:
        if not self.parts:
            return None
        start, first = self.parts[0]
        module = ":".join(part.text for part in self.parts)
        if len(self.parts) > 1 and "/" not in first:
            self.fail(start, f"there is no provider {first!r}", "providers are uprobe, uretprobe and usdt")
        return module
