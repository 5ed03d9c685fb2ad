"""Which bytes a jump may take the place of: each rule with code that breaks it."""

from array import array

import pytest

from uprobe_core.abi import refusal
from uprobe_core.x86.targets import Text
from uprobe_core.x86.windows import find

BASE = 0x10000
NONE, SHORT, PAGE = refusal.REFUSAL_NONE, refusal.REFUSAL_SHORT, refusal.REFUSAL_PAGE


def text_of(code, functions=None, vaddr=BASE):
    """`code` in hex, swept; functions: (start, end) offsets, by default one that is all of it."""
    raw = bytearray.fromhex(code)
    text = Text(raw, vaddr, vaddr, len(raw))
    spans = functions or [(0, len(raw))]
    text.sweep(array("Q", [vaddr + start for start, _ in spans]), array("Q", [vaddr + end for _, end in spans]))
    return text


def windows(text, *offsets, **rules):
    """(start offset, length) of each site's window, or its refusal."""
    starts, lengths, refusals = find(text, array("Q", [text.vaddr + offset for offset in offsets]), **rules)
    return [
        refusal(why) if why else (start - text.vaddr, length)
        for start, length, why in zip(starts, lengths, refusals, strict=True)
    ]


def test_whole_instructions_and_the_rest_joined():
    # push rbp; mov rbp,rsp; sub rsp,16 | mov eax,1; nop; ret
    text = text_of("55 4889e5 4883ec10 b801000000 90 c3")
    assert windows(text, 0, 1, 4, 8, 13, 14) == [(0, 8)] * 3 + [(8, 7)] * 3


def test_a_loop_into_the_first_five_bytes():
    # push rbx; dec edi (the loop's head); jnz head; xor eax,eax; pop rbx; ret
    text = text_of("53 ffcf 75fc 31c0 5b c3")
    assert windows(text, 0) == [SHORT]
    assert windows(text, 1, 3, 5) == [(1, 8)] * 3, "the head itself may be jumped to"


def test_a_call_ends_its_window():
    # xor eax,eax; call +0x100; test eax,eax; ret
    text = text_of("31c0 e800010000 85c0 c3")
    assert windows(text, 0, 2) == [(0, 7)] * 2
    assert windows(text, 7) == [SHORT], "the return address would be inside"


def test_nothing_runs_over_a_system_call():
    text = text_of("b801000000 0f05 4889c3 4889d8 c3")
    assert windows(text, 0, 5, 7, 10) == [(0, 5), refusal.REFUSAL_SYSTEM_CALL, (7, 7), (7, 7)]


def test_a_jump_over_a_prefix():
    # je past the lock prefix; lock inc dword [rdi]; ret: the increment runs with and without it
    text = text_of("7401 f0ff07 4889c3 4889d8 c3")
    assert windows(text, 0, 2) == [SHORT, refusal.REFUSAL_LED_INTO]
    assert windows(text, 5) == [(5, 7)]


@pytest.mark.parametrize("function", ["c3", "31c0c3", "b001c3", "31c0ffe0"])
def test_a_function_of_less_than_five_bytes(function):
    size = len(bytes.fromhex(function))
    for padding, extent in (("9090909090", 5), ("cc" * 8, 5), ("660f1f840000000000", size + 9), ("0f1f4000" * 3, None)):
        text = text_of(function + padding, [(0, size)])
        expected = extent or size + 4 * -(-(5 - size) // 4)
        assert windows(text, 0) == [(0, expected)], padding
    assert windows(text_of(function), 0) == [SHORT], "no padding"
    assert windows(text_of(function + "f30f1efa90909090", [(0, size)]), 0) == [SHORT], "endbr64 may begin something"
    neighbour = text_of(function + "90909090", [(0, size), (size, size + 4)])
    assert windows(neighbour, 0) == [SHORT], "the next function begins there"


def test_padding_that_is_reached():
    # jmp into the padding behind the ret of the function before it
    text = text_of("c3 9090909090 e9f6ffffff", [(0, 1), (6, 11)])
    assert text.is_target(BASE + 1)
    assert windows(text, 0) == [SHORT]


def test_no_window_crosses_a_page():
    text = text_of("90" * 8 + "c3", vaddr=0xFFC)
    assert windows(text, 0, 3) == [SHORT, SHORT]
    assert windows(text, 4, 8) == [(4, 5)] * 2
    text = text_of("9090 b801000000 90 90 90 90 90 c3", vaddr=0xFFC)
    assert windows(text, 2) == [PAGE]
    assert windows(text, 7) == [(7, 6)]


def test_what_may_fault_comes_first_if_faults_are_handled():
    # xor eax,eax; mov rcx,[rdi]; mov edx,5; mov rdx,[rsi]; ret
    text = text_of("31c0 488b0f ba05000000 488b16 c3")
    assert windows(text, 0, 2, 5, 10) == [(0, 5), (0, 5), (5, 9), (5, 9)]
    assert windows(text, 0, 2, 5, 10, fault_first=True) == [
        refusal.REFUSAL_FAULTS, (2, 8), (2, 8), refusal.REFUSAL_FAULTS
    ]


def test_dead_code_is_not_padding():
    # jmp +2; add [rax],al (nothing is known to lead there); mov eax,1; ret
    text = text_of("90 eb02 0000 b801000000 c3")
    assert windows(text, 0, 1, 3) == [SHORT, SHORT, SHORT]
    assert windows(text, 5) == [(5, 6)]
    # ret, padded inside the function up to the place that a jump leads to
    text = text_of("eb06 c3 0f1f4400 00 31c0 4889c7 c3")
    assert windows(text, 2, 3) == [(2, 6), (2, 6)]


def test_single_instructions():
    text = text_of("b801000000 31c0 4881ec00010000 c3")
    assert windows(text, 0, 5, 7, single=True) == [(0, 5), SHORT, (7, 7)]


def test_what_must_stay_where_it_is():
    # nop; ud2; int3; mov eax,1; ret
    text = text_of("90 0f0b cc b801000000 c3")
    assert windows(text, 0, 1, 3, 4) == [
        SHORT, refusal.REFUSAL_ALWAYS_FAULTS, refusal.REFUSAL_TRAPS_ITSELF, (4, 6)
    ]
    text = text_of("9090909090 b801000000 9090909090 c3")
    text.forbid(BASE + 5, BASE + 10)
    assert windows(text, 0, 10) == [(0, 5), (10, 6)]
    assert isinstance(windows(text, 5)[0], refusal)


def test_places_that_begin_no_instruction():
    text = text_of("b801000000 c3 9090", [(0, 6)])
    assert windows(text, 1, 6) == [refusal.REFUSAL_INSIDE, refusal.REFUSAL_NO_START]
    assert find(text, array("Q", [BASE + 8, 0]))[2].tolist() == [refusal.REFUSAL_NOT_EXECUTABLE] * 2


def test_bytes_that_are_no_instruction_end_a_function():
    text = text_of("b801000000 06 b801000000 c3")
    assert windows(text, 0, 6) == [(0, 5), refusal.REFUSAL_NO_START]


def test_code_of_which_nothing_is_known_is_searched_for_branches():
    # a function; behind it, unknown to all, a jump back into its middle
    text = text_of("31c0 31c9 31d2 c3 9090 ebf6", [(0, 7)])
    assert text.is_target(BASE + 1)
    assert windows(text, 0) == [refusal.REFUSAL_LED_INTO]


def test_order_and_repetition_of_sites_do_not_matter():
    text = text_of("55 4889e5 4883ec10 b801000000 90 c3")
    assert windows(text, 8, 0, 8, 1, 14, 0) == [(8, 7), (0, 8), (8, 7), (0, 8), (8, 7), (0, 8)]
    assert windows(text) == []
