"""Whether an address begins an instruction, by decoding from a start that something vouches for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uprobes.insn import decode, decode_all
from uprobes.process import Mapping, mapping_at, read_image, read_mappings

if TYPE_CHECKING:
    from uprobes.insn import Insn
    from uprobes.place import Place


def is_boundary(place: Place, mapping: Mapping, image: memoryview) -> bool:
    """Whether decoding from `place.start_vaddr` arrives at `place.vaddr`. `image`: the mapping's bytes in its file."""
    assert place.start_vaddr is not None
    start = place.start_vaddr - mapping.start
    end = place.vaddr - mapping.start
    if start < 0:
        return False
    # 15 more bytes: the instruction that straddles the address is decoded whole.
    decoded = decode_all(image[start : end + 15], place.start_vaddr)
    return place.vaddr in decoded.addresses


def enclosing_instruction(place: Place, pid: int) -> Insn | None:
    """The instruction that `place` is inside of, by decoding from the start of its function; None where it is in none."""
    mapping = mapping_at(read_mappings(pid), place.vaddr)
    if mapping is None or place.start_vaddr is None or place.start_vaddr < mapping.start:
        return None
    image = read_image(pid, mapping)
    first, last = place.start_vaddr - mapping.start, place.vaddr - mapping.start
    decoded = decode_all(image[first : last + 15], place.start_vaddr)
    before = [
        address
        for address, length in zip(decoded.addresses, decoded.lengths, strict=True)
        if address < place.vaddr < address + length
    ]
    if not before:
        return None
    return decode(image[before[0] - mapping.start : before[0] - mapping.start + 15], before[0])


def function_instructions(place: Place, pid: int) -> list[int]:
    """The addresses of all instructions of the function that covers `place`, in process `pid`."""
    mapping = mapping_at(read_mappings(pid), place.vaddr)
    location = place.location
    if mapping is None or location is None or location.start_vaddr is None or location.end_vaddr is None:
        return []
    bias = place.vaddr - location.vaddr
    start, end = location.start_vaddr + bias, location.end_vaddr + bias
    image = read_image(pid, mapping)
    decoded = decode_all(image[start - mapping.start : end - mapping.start], start)
    return [
        address for address, status in zip(decoded.addresses, decoded.statuses, strict=True) if status == 0
    ]
