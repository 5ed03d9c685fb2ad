"""The forms of a specification, and what is said about text that has none of them."""

import pytest

from uprobes.errors import SpecError
from uprobes.spec import Kind, ProbeSpec, Provider, parse


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("malloc", {"symbol": "malloc"}),
        ("libc:malloc", {"module": "libc", "symbol": "malloc"}),
        ("uprobe:libc.so.6:malloc", {"module": "libc.so.6", "symbol": "malloc"}),
        (
            "/usr/lib/libc.so.6:malloc+0x1f",
            {"module": "/usr/lib/libc.so.6", "symbol": "malloc", "offset": 31},
        ),
        ("libc:malloc+4", {"module": "libc", "symbol": "malloc", "offset": 4}),
        ("libc:malloc+0", {"module": "libc", "symbol": "malloc"}),
        ("memcpy@GLIBC_2.2.5", {"symbol": "memcpy@GLIBC_2.2.5"}),
        ("uretprobe:libc:malloc", {"provider": Provider.URETPROBE, "module": "libc", "symbol": "malloc"}),
        ("lib*:mem[cs]?*", {"module": "lib*", "symbol": "mem[cs]?*"}),
        ("0xffffffff81000000", {"address": 0xFFFFFFFF81000000}),
        ("libc:0x12AB", {"module": "libc", "address": 0x12AB}),
        ("Python/ceval.c:1234", {"file": "Python/ceval.c", "line": 1234}),
        ("libpython3.11:ceval.c:1", {"module": "libpython3.11", "file": "ceval.c", "line": 1}),
        (
            "usdt:libc:libc:setjmp",
            {"provider": Provider.USDT, "module": "libc", "namespace": "libc", "marker": "setjmp"},
        ),
        ("usdt:python:gc__*", {"provider": Provider.USDT, "namespace": "python", "marker": "gc__*"}),
        ("/opt/a:b/x.so:f", {"module": "/opt/a:b/x.so", "symbol": "f"}),
        ("x:ns::f(int)", {"module": "x", "symbol": "ns::f(int)"}),
        ("uprobe:usdt:f", {"module": "usdt", "symbol": "f"}),
        ("uprobe:usdt", {"symbol": "usdt"}),
        (" libc : malloc ", {"module": "libc", "symbol": "malloc"}),
    ],
)
def test_forms(text, fields):
    assert parse(text) == ProbeSpec(**fields)


@pytest.mark.parametrize(
    ("text", "position", "fact"),
    [
        ("", 0, "it is empty"),
        ("  \n", 0, "it is empty"),
        ("libc:", 5, "a name is missing"),
        (":malloc", 0, "a name is missing"),
        ("libc::", 0, "a name is missing"),
        ("libc: :f", 5, "a name is missing"),
        ("uprobe", 6, "nothing follows the provider uprobe"),
        ("uprobes:libc:malloc", 0, "there is no provider 'uprobes'"),
        ("kprobe:x:do_exit", 0, "there is no provider 'kprobe'"),
        ("libc:malloc+", 12, "the offset '' is not a number"),
        ("libc:malloc+two", 12, "the offset 'two' is not a number"),
        ("libc:+4", 5, "no symbol stands before the offset"),
        ("libc:malloc+0x80000000", 12, "the offset 0x80000000 is not between 0 and 0x7fffffff"),
        ("0x", 2, "a hexadecimal digit is missing or wrong"),
        ("libc:0x12g4", 9, "a hexadecimal digit is missing or wrong"),
        ("0x10000000000000000", 0, "the address 0x10000000000000000 is not between"),
        ("1234", 0, "1234 is a line of no file"),
        ("a.c:0", 4, "the line 0 is not between 1"),
        ("a.c:" + "9" * 5000, 4, "is not between 1"),
        ("uretprobe:libc:malloc+4", 15, "a return has no offset"),
        ("uretprobe:a.c:4", 14, "a line does not return"),
        ("usdt:setjmp", 5, "a marker has two names"),
        ("libc:mal\x00loc", 8, "control character '\\x00'"),
    ],
)
def test_garbage_is_placed_and_explained(text, position, fact):
    with pytest.raises(SpecError) as caught:
        parse(text)
    assert caught.value.position == position
    assert caught.value.text == text
    assert f"at character {position}: " in str(caught.value)
    assert fact in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "kind", "is_glob"),
    [
        ("libc:malloc", Kind.SYMBOL, False),
        ("lib?:malloc", Kind.SYMBOL, True),
        ("libc:*", Kind.SYMBOL, True),
        ("libc:0x10", Kind.ADDRESS, False),
        ("a.c:3", Kind.LINE, False),
        ("usdt:a:b", Kind.MARKER, False),
        ("usdt:a:b*", Kind.MARKER, True),
    ],
)
def test_kind_and_glob(text, kind, is_glob):
    spec = parse(text)
    assert (spec.kind, spec.is_glob) == (kind, is_glob)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"symbol": "f", "address": 4},
        {"symbol": "a:b"},
        {"symbol": "12", "module": "m"},
        {"symbol": "f+4"},
        {"symbol": "f", "offset": -1},
        {"address": 1 << 64},
        {"address": 4, "offset": 4},
        {"file": "a.c"},
        {"marker": "m", "namespace": "n"},
        {"provider": Provider.USDT, "symbol": "f"},
        {"module": "not:a:path", "symbol": "f"},
    ],
)
def test_a_value_without_a_text_cannot_be_made(fields):
    with pytest.raises(SpecError):
        ProbeSpec(**fields)
