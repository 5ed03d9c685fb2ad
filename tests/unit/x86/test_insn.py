"""The decoder as Python sees it: Insn, decode and decode_all."""

import pytest

from uprobe_core.status import status
from uprobes.errors import UprobeError
from uprobes.insn import DecodeError, Insn, decode, decode_all

MOV = bytes.fromhex("488b0510000000")


def test_an_instruction_tells_what_it_is():
    found = decode(MOV, 0x401000)
    assert repr(found) == "<Insn 0x401000: 48 8b 05 10 00 00 00  mov [0x401017]>"
    assert (len(found), found.length, found.bytes, found.address) == (7, 7, MOV, 0x401000)
    assert (found.encoding, found.map, found.opcode, found.modrm) == ("legacy", 0, 0x8B, 0x05)
    assert found.rip_relative
    assert not found.is_branch
    assert repr(decode(b"\x75\xfe", 0x1000)) == "<Insn 0x1000: 75 fe  jne 0x1000>"
    assert decode(b"\x75\xfe").is_branch
    assert decode(b"\xcd\x80").is_system_call
    assert not decode(b"\xcd\x81").is_system_call


def test_masks_and_names_agree():
    found = decode(bytes.fromhex("480fb10b"))
    reads, writes, kills, flags_read, flags_written, flags_undefined = found.masks
    assert reads == 1 << 0 | 1 << 1 | 1 << 3
    assert found.reads == {"rax", "rcx", "rbx"}
    assert writes == 1 << 0
    assert (kills, flags_read, flags_undefined) == (0, 0, 0)
    assert flags_written == 0x8D5
    assert found.flags_written == {"cf", "pf", "af", "zf", "sf", "of"}


def test_equality_is_of_bytes_address_and_mode():
    assert decode(MOV, 1) == decode(bytearray(MOV), 1)
    assert hash(decode(MOV, 1)) == hash(decode(MOV + b"\x90", 1))
    assert decode(MOV, 1) != decode(MOV, 2)
    assert decode(b"\x90") != decode(b"\x90", bits=32)
    assert decode(b"\x90") != b"\x90"


def test_what_follows_the_instruction_is_left_alone():
    for tail in (b"", b"\xff", bytes(100)):
        assert decode(MOV + tail).bytes == MOV
    assert decode(memoryview(b"\x00" + MOV)[1:]).bytes == MOV


def test_no_insn_without_decoding():
    with pytest.raises(TypeError, match="decode"):
        Insn()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("text",), "must be bytes"),
        ((None,), "must be bytes"),
        ((b"\x90", -1), "0 to 2"),
        ((b"\x90", 1 << 64), "0 to 2"),
        ((b"\x90", "here"), "0 to 2"),
        ((b"\x90", 1.5), "0 to 2"),
        ((b"\x90", 0, 16), "64 or 32"),
        ((b"\x90", 0, 64, "via"), '"amd", "intel"'),
        ((b"\x90", 0, 64, []), '"amd", "intel"'),
    ],
)
@pytest.mark.parametrize("function", [decode, decode_all])
def test_arguments_that_make_no_sense(function, arguments, said):
    with pytest.raises(DecodeError, match=said) as caught:
        function(*arguments)
    assert isinstance(caught.value, (UprobeError, ValueError))


def test_errors_say_what_is_wrong_and_where():
    with pytest.raises(DecodeError) as caught:
        decode(bytes.fromhex("f00f1f00"), 0x7F00, vendor="amd")
    assert str(caught.value) == (
        "cannot decode f0 0f 1f 00 at 0x7f00 (64-bit), at byte 3: lock on an instruction that cannot have it"
    )
    assert caught.value.offset == 3


def test_the_last_address_wraps():
    assert decode(b"\xeb\x00", (1 << 64) - 2).target == 0


def test_a_buffer_becomes_columns():
    code = bytes.fromhex("55 4889e5 06 e800000000 c3")
    listing = decode_all(code, 0x1000, vendor="amd")
    assert listing.addresses.tolist() == [0x1000, 0x1001, 0x1004, 0x1005, 0x100A]
    assert listing.lengths.tolist() == [1, 3, 1, 5, 1]
    assert listing.statuses.tolist() == [0, 0, status.STATUS_INVALID, 0, 0]
    assert listing.targets.tolist() == [0, 0, 0, 0x100A, 0]
    assert listing.names[2] == 0
    assert listing.reads is None
    assert len(listing) == 5
    assert repr(listing) == "<Listing of 5 instructions, 1 of them invalid>"


def test_columns_say_what_single_instructions_say():
    code = bytes.fromhex("4889e5 480fb10b f3a4 0f84 10000000 c5f877 62f1fd48104c2401 06 488b0510000000 66e81122")
    listing = decode_all(code, 0x1000, vendor="amd", effects=True)
    for place, address in enumerate(listing.addresses):
        if listing.statuses[place]:
            continue
        one = decode(code[address - 0x1000 :], address, vendor="amd")
        assert listing.lengths[place] == one.length
        assert listing.attributes[place] == one.attributes
        assert listing.targets[place] == (one.target or 0)
        columns = (listing.reads, listing.writes, listing.kills, listing.flags_read, listing.flags_written)
        assert tuple(column[place] for column in columns) == one.masks[:5]


def test_a_buffer_of_the_shortest_instructions():
    assert len(decode_all(b"\x90" * 100_000)) == 100_000
    assert decode_all(b"").lengths.tolist() == []


def test_columns_are_numpy_arrays_without_a_copy():
    numpy = pytest.importorskip("numpy")
    listing = decode_all(b"\x90\x55\xc3", effects=True)
    assert numpy.asarray(listing.writes).tolist() == [0, 1 << 4, 1 << 4]
    assert numpy.asarray(listing.addresses).dtype == numpy.uint64


def test_a_truncated_end_is_told():
    listing = decode_all(b"\x90\x48\x8b")
    assert listing.statuses.tolist()[:2] == [0, status.STATUS_TRUNCATED]
