"""How functions are left, and what is passed before what; code by hand, as bytes."""

import pytest

from uprobes.control_flow import ControlFlow, Exit, UnknownJump

START = 0x1000


def exits(code, inside=()):
    flow = ControlFlow(bytes.fromhex(code), START)
    return [(address - START, manner) for address, manner in flow.exits(lambda address: address in inside)]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("90 c3", [(1, Exit.RETURN)]),
        ("c2 08 00", [(0, Exit.RETURN)]),
        ("f3 c3", [(0, Exit.RETURN)]),
        ("74 01 c3 c3", [(2, Exit.RETURN), (3, Exit.RETURN)]),
        ("e9 00 01 00 00", [(0, Exit.TAIL_CALL)]),
        ("0f 84 00 01 00 00 c3", [(0, Exit.TAIL_CALL), (6, Exit.RETURN)]),
        ("eb fe", []),
        ("e8 00 01 00 00 0f 0b", []),
        ("ff e0", [(0, Exit.TAIL_CALL)]),  # jmp *%rax
        ("48 8b 47 18 ff e0", [(4, Exit.TAIL_CALL)]),  # mov 0x18(%rdi),%rax; jmp *%rax
        ("ff 67 18", [(0, Exit.TAIL_CALL)]),  # jmp *0x18(%rdi)
        ("ff 25 00 10 00 00", [(0, Exit.TAIL_CALL)]),  # jmp *0x1000(%rip)
        ("3e ff e0 c3", [(3, Exit.RETURN)]),  # notrack jmp *%rax
        ("3e ff 24 c5 00 00 40 00 c3", [(8, Exit.RETURN)]),  # notrack jmp *0x400000(,%rax,8)
        ("48 63 04 82 48 01 d0 ff e0 c3", [(9, Exit.RETURN)]),  # movslq (%rdx,%rax,4),%rax; add %rdx,%rax; jmp *%rax
        ("8b 04 02 48 98 48 8d 15 00 10 00 00 48 01 d0 3e ff e0 c3", [(18, Exit.RETURN)]),
        ("8b 04 02 48 98 48 8d 15 00 10 00 00 48 01 d0 ff e0 c3", [(17, Exit.RETURN)]),  # the same without notrack
        ("48 01 d0 90 48 89 f8 ff e0", [(7, Exit.TAIL_CALL)]),  # add, but then mov %rdi,%rax; jmp *%rax
        ("f3 0f 1e fa ff 24 c7", [(4, Exit.TAIL_CALL)]),  # endbr64; jmp *(%rdi,%rax,8)
    ],
)
def test_exits(code, expected):
    assert exits(code) == expected


@pytest.mark.parametrize(
    "code",
    [
        "ff 24 c5 00 00 40 00",  # jmp *0x400000(,%rax,8)
        "ff 24 c7",  # jmp *(%rdi,%rax,8)
        "48 8b 04 c7 ff e0",  # mov (%rdi,%rax,8),%rax; jmp *%rax
    ],
)
def test_an_array_of_labels_or_of_functions(code):
    with pytest.raises(UnknownJump, match="may or may not leave"):
        exits(code)


def test_other_parts_of_the_function_are_inside():
    jump = "0f 84 00 01 00 00 c3"
    assert exits(jump, inside={START + 0x106}) == [(6, Exit.RETURN)]


@pytest.mark.parametrize(
    ("code", "asked", "dominated"),
    [
        ("90 90 90 c3", [0, 1, 2], [1, 2]),  # in a row
        ("74 02 90 90 90 c3", [2, 4], []),  # one may be jumped over
        ("74 02 90 c3 90 c3", [2, 4], []),  # either one or the other
        ("90 74 02 90 c3 90 c3", [0, 3, 5], [3, 5]),  # the fork itself
        ("90 75 fd 90 c3", [0, 3], [3]),  # the body of a loop, and what follows
        ("eb 01 90 48 ff c8 75 f8 c3", [2, 3], []),  # a loop that is entered at its test
        ("90 c3 90 c3", [0, 2], []),  # nothing leads to the second: an exception may land there
        ("90 90 ff e0", [0, 1], []),  # a jump that may go anywhere
        ("90 c3", [0], []),
        ("90 c3", [], []),
        ("90 90 c3", [0, 0x40], []),  # not in the function
    ],
)
def test_dominated(code, asked, dominated):
    flow = ControlFlow(bytes.fromhex(code), START)
    assert flow.dominated(START + offset for offset in asked) == {START + offset for offset in dominated}
