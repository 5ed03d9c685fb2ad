"""Windows of any code: whole instructions, nothing leads into them, none overlap, none cross a page."""

from array import array

from hypothesis import given, settings
from hypothesis import strategies as st

from uprobe_core.abi import refusal
from uprobe_core.x86.targets import Text
from uprobe_core.x86.windows import find
from uprobes.insn import decode

PAGE = 4096
STAYING = {"syscall", "int", "never", "iret", "call-far", "jmp-far", "ret-far", "xbegin"}
PIECES = [
    bytes.fromhex(piece)
    for piece in (
        *("90", "c3", "55", "5d", "31c0", "4889e5", "488b07", "48893e", "f0ff07", "0f05", "0f0b", "cc", "ffd0", "ffe0"),
        *("b801000000", "e800000000", "48b80102030405060708", "4883ec10", "0f1f4000", "f30f1efa", "06", "c5fd6f07"),
        *("488d0500000000", "c5f877", "6690", "f390", "48f7f1", "9c", "9d"),
    )
]
piece = st.one_of(
    st.sampled_from(PIECES),
    st.builds(lambda opcode, rel: bytes([opcode, rel & 255]), st.sampled_from(b"\x74\xeb\xe2"), st.integers(-40, 40)),
    st.binary(min_size=1, max_size=6),
)
codes = st.lists(piece, min_size=1, max_size=60).map(b"".join)


@settings(max_examples=300)
@given(codes, st.integers(0, PAGE), st.lists(st.integers(0, 200), max_size=4), st.booleans(), st.booleans())
def test_invariants(code, offset, cuts, fault_first, single):
    vaddr = 0x40000 + offset
    starts = sorted({0, *(cut for cut in cuts if cut < len(code))})
    ends = [*starts[1:], len(code)]
    text = Text(bytearray(code), vaddr, vaddr, len(code))
    text.sweep(array("Q", [vaddr + start for start in starts]), array("Q", [vaddr + end for end in ends]))
    sites = text.instructions()
    found = find(text, sites, fault_first=fault_first, single=single)
    windows = {}
    for site, start, length, why in zip(sites, *found, strict=True):
        if why:
            assert (start, length) == (0, 0)
            continue
        assert start <= site < start + length
        assert windows.setdefault(start, length) == length
    last = 0
    for start, length in sorted(windows.items()):
        assert start >= last, "they overlap"
        last = start + length
        assert length >= 5
        assert start // PAGE == (last - 1) // PAGE
        assert not any(text.is_target(address) for address in range(start + 1, last))
        _check_instructions(code[start - vaddr : last - vaddr], start, text, fault_first, single)
    # each site alone has the same window as with all others
    for index in range(0, len(sites), 7):
        alone = find(text, array("Q", [sites[index]]), fault_first=fault_first, single=single)
        assert [column[0] for column in alone] == [column[index] for column in found]


def _check_instructions(code, start, text, fault_first, single):
    """Whole instructions, of which a call is the last; behind one that never falls through there is only padding."""
    at, ended, count = 0, False, 0
    while at < len(code):
        insn = decode(code[at:], start + at)
        if ended:
            assert insn.mnemonic in {"nop", "int3"}, insn
        else:
            count += 1
            assert text.is_instruction(start + at)
            assert insn.flow not in STAYING, insn
            assert insn.flow not in {"call", "call-indirect"} or at + insn.length == len(code), insn
            if fault_first and at:
                assert not (insn.may_fault and (insn.memory_read or insn.memory_written)), insn
        ended = ended or insn.flow in {"ret", "jmp", "jmp-indirect"}
        at += insn.length
    assert at == len(code)
    assert not single or count == 1


@given(codes, st.integers(0, 2**64 - 1))
def test_any_site_is_answered(code, site):
    text = Text(bytearray(code), 0, 0, len(code))
    text.sweep(array("Q", [0]), array("Q", [len(code)]))
    starts, _, refusals = find(text, array("Q", [site, site % len(code)]))
    assert all(start == 0 or not why for start, why in zip(starts, refusals, strict=True))
    assert all(0 <= why < refusal.REFUSAL_COUNT for why in refusals)
