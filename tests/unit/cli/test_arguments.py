"""Argument formats of `uprobes trace`, with a hit made by hand."""

from types import SimpleNamespace

import click
import pytest

from uprobes.cli.arguments import FORMATS, STRING_LIMIT, Call
from uprobes.errors import MemoryFault


class FakeMemory:
    """Strings by address; any other address faults."""

    def __init__(self, strings):
        self.strings = strings

    def read_cstring(self, address, limit):
        if address not in self.strings:
            raise MemoryFault(address, limit, "read")
        return self.strings[address][:limit]


def show(spec, *args, strings=None, default=0):
    call = Call(spec, default)
    hit = SimpleNamespace(args=args, memory=FakeMemory(strings or {}))
    return call.show(call.values(hit))


ALL_ONES = (1 << 64) - 1


@pytest.mark.parametrize(
    ("word", "value", "shown"),
    [
        ("%d", 0xDEADBEEF_00000005, "5"),
        ("%d", ALL_ONES, "-1"),
        ("%d", 0x7FFFFFFF, "2147483647"),
        ("%d", 0x80000000, "-2147483648"),
        ("%u", ALL_ONES, "4294967295"),
        ("%x", ALL_ONES, "0xffffffff"),
        ("%c", 0x12345641, "'A'"),
        ("%c", 10, r"'\n'"),
        ("%ld", ALL_ONES, "-1"),
        ("%zd", 1 << 63, str(-(1 << 63))),
        ("%lu", ALL_ONES, str(ALL_ONES)),
        ("%zu", 7, "7"),
        ("%lx", 1 << 40, "0x10000000000"),
        ("%p", 0, "0x0"),
    ],
)
def test_number(word, value, shown):
    assert show(f"f({word})", value) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"", '""'),
        (b"plain", '"plain"'),
        (b'a "b" \\ \n', r'"a \"b\" \\ \n"'),
        ("grün".encode(), '"grün"'),
        (b"\xff\x01", '"\\\\xff\x01"'),
        (b"x" * STRING_LIMIT, f'"{"x" * STRING_LIMIT}"'),
        (b"x" * (STRING_LIMIT + 1), f'"{"x" * STRING_LIMIT}…"'),
    ],
)
def test_string(text, shown):
    assert show("f(%s)", 64, strings={64: text}) == shown


def test_string_that_cannot_be_read_is_a_question_mark():
    assert show("f(%s, %d)", 8, 3) == "?, 3"


def test_order_and_spaces():
    assert show("libc:open( %s ,%x,%p )", 64, 2, 3, strings={64: b"/etc"}) == '"/etc", 0x2, 0x3'


def test_no_list_shows_pointers():
    assert show("libc:malloc", 16, 32, 48, default=2) == "0x10, 0x20"


def test_empty_list_shows_nothing():
    assert show("libc:getpid()", 1, default=3) == ""


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("libc:open(%s, %d)", "libc:open"),
        ("libc:malloc+4(%p)", "libc:malloc+4"),
        ("prog:ns::f(int, char*)", "prog:ns::f(int, char*)"),
        ("prog:ns::f(int)(%d)", "prog:ns::f(int)"),
        ("libc:getpid()", "libc:getpid"),
    ],
)
def test_specification_is_what_is_left(text, spec):
    assert Call(text, 0).spec == spec


@pytest.mark.parametrize("bad", ["f(%q)", "f(%d %d)", "f(%d,)", "f(int, %d)", "f(%)"])
def test_unknown_format_is_a_usage_error_that_lists_the_known(bad):
    with pytest.raises(click.UsageError, match="no such format") as caught:
        Call(bad, 0)
    assert all(word in caught.value.message for word in FORMATS)
