"""What holds for every byte sequence that the decoder is given."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from uprobes.insn import DecodeError, decode, decode_all

# Bytes that mean something where an opcode may stand come up often.
SPECIAL = bytes.fromhex("0f 66 f2 f3 48 41 64 2e 67 f0 c4 c5 62 8f 38 3a ff")
BYTE = st.one_of(st.integers(0, 255), st.sampled_from(SPECIAL))
CODE = st.lists(BYTE, min_size=1, max_size=20).map(bytes)
BITS = st.sampled_from([64, 32])
VENDOR = st.sampled_from(["amd", "intel"])
LEGACY = re.compile(rb"[\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3\x40-\x4f]")


def outcome(code, *arguments):
    """The instruction, or the text of the error."""
    try:
        return decode(code, *arguments)
    except DecodeError as error:
        return str(error)


@given(CODE, st.integers(0, 2**64 - 1), BITS, VENDOR)
@settings(max_examples=500)
def test_an_instruction_depends_on_its_own_bytes_alone(code, address, bits, vendor):
    found = outcome(code, address, bits, vendor)
    if isinstance(found, str):
        return
    assert 1 <= found.length <= min(15, len(code))
    assert found.bytes == code[: found.length]
    again = decode(found.bytes, address, bits, vendor)
    long = decode(found.bytes + bytes(64), address, bits, vendor)
    for other in (again, long):
        assert (other.masks, other.offsets, other.target, other.attributes) == (
            *(found.masks, found.offsets, found.target, found.attributes),
        )
    for size in range(1, found.length):
        assert "goes on after them" in outcome(code[:size], address, bits, vendor)


@given(CODE, VENDOR)
@settings(max_examples=500)
def test_a_segment_prefix_without_effect_changes_nothing_but_the_place(code, vendor):
    """One prefix, two and none are decoded by different code."""
    if LEGACY.match(code[:1]):
        return
    plain = outcome(code, 0x1000, 64, vendor)
    for prefixes in (b"\x2e", b"\x3e\x2e"):
        shifted = outcome(prefixes + code, 0x1000 - len(prefixes), 64, vendor)
        if isinstance(plain, str) or isinstance(shifted, str):
            assert isinstance(plain, str) == isinstance(shifted, str) or "at most 15" in str(shifted)
            continue
        assert shifted.length == plain.length + len(prefixes)
        assert (shifted.mnemonic, shifted.masks, shifted.target) == (plain.mnemonic, plain.masks, plain.target)
        assert (shifted.attributes, shifted.flow, shifted.step) == (plain.attributes, plain.flow, plain.step)
        assert (shifted.immediate, shifted.displacement) == (plain.immediate, plain.displacement)
        assert (shifted.operand_size, shifted.address_size) == (plain.operand_size, plain.address_size)


@given(st.binary(max_size=200), st.integers(0, 2**64 - 1), BITS, VENDOR)
@settings(max_examples=200)
def test_a_listing_is_the_instructions_one_by_one(buffer, address, bits, vendor):
    listing = decode_all(buffer, address, bits, vendor, effects=True)
    position = 0
    for place in range(len(listing)):
        assert listing.addresses[place] == (address + position) % 2**64
        found = outcome(buffer[position:], (address + position) % 2**64, bits, vendor)
        assert (listing.statuses[place] == 0) == (not isinstance(found, str))
        assert listing.lengths[place] == (1 if isinstance(found, str) else found.length)
        position += listing.lengths[place]
    assert position == len(buffer)


@given(CODE, BITS, VENDOR)
@settings(max_examples=500)
def test_masks_are_consistent(code, bits, vendor):
    found = outcome(code, 0, bits, vendor)
    if isinstance(found, str):
        return
    reads, writes, kills, _, flags_written, flags_undefined = found.masks
    assert kills & ~writes == 0
    assert kills & reads == 0
    assert flags_undefined & ~flags_written == 0
    assert (reads | writes) >> (16 if bits == 64 else 8) == 0
