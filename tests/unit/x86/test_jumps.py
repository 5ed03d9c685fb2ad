"""Indirect jumps and jump tables: where they lead, and which functions are opened because nobody knows."""

import struct
from array import array

import pytest

from uprobe_core.abi import refusal
from uprobe_core.x86.jumps import follow_jumps
from uprobe_core.x86.targets import Text
from uprobe_core.x86.windows import find

BASE = 0x1000
TABLE = 0x1800


def build(code, table=(), base=TABLE):
    """A function at BASE, and a table of distances from `base` at TABLE that lead to offsets of the function."""
    raw = bytes.fromhex(code)
    image = bytearray(0x1000)
    image[: len(raw)] = raw
    for index, offset in enumerate(table):
        struct.pack_into("<i", image, TABLE - BASE + 4 * index, BASE + offset - base)
    text = Text(image, BASE, BASE, 0x800)
    text.sweep(array("Q", [BASE]), array("Q", [BASE + len(raw)]))
    return text, array("Q", [BASE]), array("Q", [BASE + len(raw)])


def lea(register, at, to):
    """lea register, [rip + …] in hex, as it stands at offset `at`."""
    return bytes([0x48, 0x8D, 5 | register << 3]).hex() + struct.pack("<i", to - (BASE + at + 7)).hex()


def follow(text, starts, ends, framed=b"\0"):
    return [jump - BASE for jump in follow_jumps(text, starts, ends, framed)]


SWITCH = lea(2, 0, TABLE) + "486304ba 4801d0 3effe0" + "90 31c0 c3 31c9 4889c8 c3"  # the cases: 0x12, 0x15


def test_a_switch():
    text, *unit = build(SWITCH, [0x12, 0x15])
    assert follow(text, *unit) == []
    assert [text.is_target(BASE + offset) for offset in (0x12, 0x15, 0x17, 0x7)] == [True, True, False, False]


def test_a_table_into_the_middle_of_what_would_be_a_window():
    code = lea(2, 0, TABLE) + "486304ba 4801d0 ffe0" + "31c0 31c9 31d2 31db c3"
    text, *unit = build(code, [0x10, 0x14])
    follow(text, *unit)
    starts, _, refusals = find(text, array("Q", [BASE + 0x10, BASE + 0x12, BASE + 0x14]))
    assert refusals.tolist() == [refusal.REFUSAL_SHORT] * 2 + [0]
    assert starts[2] == BASE + 0x14


def test_two_tables_next_to_each_other():
    code = SWITCH + "90" + lea(2, 0x1C, TABLE + 8) + "486304ba 4801d0 ffe0 31c0 c3"  # the case: 0x2c
    text, *unit = build(code, [0x12, 0x15])
    assert follow(text, *unit) == [], "the function has a table"
    text, *unit = build(code, [0x12, 0x15, 0x2C - 8])  # the second one's distances are from itself
    assert follow(text, *unit) == []
    assert text.is_target(BASE + 0x2C)
    assert not text.is_target(BASE + 0x2C - 8), "it is no part of the first"


def test_a_computed_jump_opens_its_function():
    # lea rdx,[rip+code]; shl ecx,3; add rdx,rcx; jmp rdx: an unrolled loop
    code = lea(2, 0, BASE + 0x10) + "c1e103 4801ca ffe2" + "90" + "31c0 31c9 31d2 31db c3"
    text, *unit = build(code)
    assert follow(text, *unit) == [0xD]
    _, _, refusals = find(text, array("Q", [BASE + 0x10, BASE + 0x12, BASE + 7]))
    assert refusals.tolist() == [refusal.REFUSAL_INDIRECT] * 3
    starts, _, refusals = find(text, array("Q", [BASE]))
    assert (starts[0], refusals[0]) == (BASE, 0), "one instruction of seven bytes, whatever leads to its start"


@pytest.mark.parametrize(
    ("entry", "kept"),
    [
        ("55 4889e5 53 50", True),  # ends in a push: a jump into it would push again
        ("f30f1efa 55", True),
        ("4157 4156 4155", True),
        ("55 4889e5 90 90", False),  # behind the push it might be jumped to
        ("31c0 31c9 31d2", False),
    ],
)
def test_the_entry_of_an_opened_function(entry, kept):
    size = len(bytes.fromhex(entry))
    text, *unit = build(entry + lea(2, size, BASE + 0x30) + "4801ca ffe2")
    assert follow(text, *unit) == [size + 10]
    starts, _, refusals = find(text, array("Q", [BASE]))
    assert (refusals[0] == 0) == kept
    assert starts[0] == (BASE if kept else 0)


@pytest.mark.parametrize(
    "code",
    [
        "488b07 ffe0",  # through a pointer that was stored
        "ff20",
        "ff24c500180000",
        "4889f8 488b7f08 ffe0",  # an argument
        "488b4710 4885c0 7403 ffe0 c3 0f1f00 ffe0",
        "e800000000 ffe0",  # what a function returned
        "488b4738 48c1c811 6448330425 30000000 ffe0",  # demangled as longjmp does
        "488b07 488b5708 85f6 480f44c2 ffe0",
        "5b ffe3",
        "488b1f 5d 4889d8 5b ffe0",
    ],
)
def test_addresses_that_were_taken_as_they_are(code):
    text, *unit = build(code)
    assert follow(text, *unit) == []


@pytest.mark.parametrize(
    "code", ["4801f7 ffe7", "488d0437 ffe0", "486bc008 ffe0", "48f7d0 ffe0", "8b07 ffe0", "4829f0 ffe0"]
)
def test_addresses_that_are_computed(code):
    text, *unit = build(code)
    assert follow(text, *unit) != []


def test_a_register_that_another_part_has_set():
    text, *unit = build("ffe0")
    assert follow(text, *unit) == []
    text, *unit = build("ffe0")
    assert follow(text, *unit, framed=b"\1") == [0]


def test_labels_and_their_distances():
    # lea rdx,[rip+table]; movsxd rax,[rdx+rdi*4]; lea rcx,[rip+label]; add rax,rcx; jmp rax; the labels: 0x17, 0x1a
    code = lea(2, 0, TABLE) + "486304ba" + lea(1, 0xB, BASE + 0x17) + "4801c8 ffe0" + "31c0c3 31c9 4889c8 c3"
    text, *unit = build(code, [0x17, 0x1A], base=BASE + 0x17)
    assert follow(text, *unit) == []
    assert text.is_target(BASE + 0x1A)
