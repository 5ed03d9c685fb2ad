"""What hit code may change: registers, flags, the red zone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uprobe_core.x86.liveness import liveness

BASE = 0x2000
RAX, RCX, RSP, R11 = (1 << number for number in (0, 1, 4, 11))
CF, ARITHMETIC = 0x1, 0x8D5


def live(code, offset=0, **how):
    return liveness(bytes.fromhex(code), BASE, BASE + offset, **how)


def test_overwritten_before_it_is_read():
    found = live("31c0 b902000000 89c8 c3")  # xor eax,eax; mov ecx,2; mov eax,ecx; ret
    assert found.dead_registers == RAX | RCX
    assert found.dead_flags == ARITHMETIC


@pytest.mark.parametrize("code", ["c3", "ffe0", "e800000000 31c0 c3", "06", "eb70", ""])
def test_all_is_alive_where_nothing_is_known(code):
    assert live(code)[:2] == (0, 0)


def test_a_system_call_overwrites_two_registers():
    assert live("0f05 31c0").dead_registers == RCX | R11


def test_every_path_counts():
    # test edi,edi; je +2; xor eax,eax (or not); ret
    assert not live("85ff 7402 31c0 c3").dead_registers & RAX
    # on both sides
    assert live("85ff 7404 31c0 eb02 31c0 c3").dead_registers & RAX
    # a loop: dec ecx; jnz back; mov eax,1; ret
    assert live("ffc9 75fc b801000000 c3").dead_registers & RAX


@pytest.mark.parametrize(
    ("code", "dead"),
    [
        ("b001 c3", False),  # mov al,1 keeps the rest of rax
        ("66b80100 c3", False),
        ("b801000000 c3", True),
        ("0f44c1 c3", False),  # cmove eax,ecx: perhaps not
        ("0fb6c0 c3", False),
        ("4831c0 c3", True),
        ("58 c3", True),
    ],
)
def test_a_part_of_a_register_is_not_all_of_it(code, dead):
    assert bool(live(code).dead_registers & RAX) == dead


@pytest.mark.parametrize(
    ("code", "dead"),
    [
        ("01c8 c3", ARITHMETIC),
        ("ffc0 c3", ARITHMETIC & ~CF),  # inc leaves CF alone
        ("7400 01c8 c3", ARITHMETIC & ~0x40),
        ("7402 01c8 c3", 0),
        ("d3e0 c3", 0),  # a shift by cl, which may be 0
        ("c1e000 c3", 0),
        ("f3a6 c3", 0),  # repe cmpsb, perhaps not once
        ("e800000000 01c8", 0),
        ("83f800 0f94c0 c3", ARITHMETIC),
        ("9c 01c8 c3", 0),
    ],
)
def test_flags(code, dead):
    assert live(code).dead_flags == dead


def test_flags_where_a_function_is_called():
    assert live("e800000000 c3", entry=True).dead_flags == ARITHMETIC
    assert live("488d4701 c3", entry=True).dead_flags == 0, "it leaves them alone, so its caller may count on them"
    assert live("7402 01c8 c3", entry=True).dead_flags & 0x40 == 0, "it reads them"


@pytest.mark.parametrize(
    ("code", "offset", "used"),
    [
        ("897c24fc 8b4424fc c3", 4, True),
        ("4883ec08 e800000000 4883c408 c3", 4, False),
        ("897c24fc e800000000 c3", 4, True),  # by hand: below the stack pointer, and a call
        ("55 4889e5 897dfc 5d c3", 4, True),  # a leaf with a frame pointer
    ],
)
def test_red_zone(code, offset, used):
    assert live(code, offset).red_zone == used
    assert not live(code, entry=True).red_zone


@given(st.binary(max_size=400), st.integers(0, 2**64 - 1), st.integers(-2, 402), st.booleans())
def test_any_bytes(code, vaddr, offset, entry):
    found = liveness(code, vaddr, (vaddr + offset) % 2**64, entry=entry)
    assert not found.dead_registers & (RSP | ~0xFFFF)
    assert not found.dead_flags & ~ARITHMETIC
