"""Whether an address begins an instruction, by decoding from a start that something vouches for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uprobe_core.x86.boundaries import BEGINS, MAY_ABORT, mark_boundaries
from uprobes.insn import decode, decode_all
from uprobes.process import Mapping, mapping_at, read_image, read_mappings
from uprobes.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uprobes.insn import Insn
    from uprobes.place import Place
    from uprobes.places import Places


def find_boundaries(
    places: Places, first: int, last: int, mapping: Mapping, image: memoryview, refusals: dict[int, Refusal]
) -> Sequence[int]:
    """The indices, from `first` to before `last`, of the places that begin an instruction; why the others do not
    goes to `refusals`. `image` is what the mapping's file has; all these places are in the mapping.
    """
    vaddrs, starts = places.vaddrs[first:last], places.starts[first:last]
    every = range(first, last)
    marks = bytearray(len(every))
    if vaddrs == starts or mark_boundaries(image, mapping.start, vaddrs, starts, marks) == len(every):
        return every
    for index, start, mark in zip(every, starts, marks, strict=True):
        if mark == MAY_ABORT:
            refusals[index] = Refusal.TRANSACTION
        elif not mark:
            refusals[index] = Refusal.INSIDE if start else Refusal.NO_START
    return [index for index, mark in zip(every, marks, strict=True) if mark == BEGINS]


def enclosing_instruction(place: Place, pid: int) -> Insn | None:
    """The instruction that `place` is inside of, decoded from the start of its function; None where it is in none."""
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


def neighbours(place: Place, insn: Insn) -> tuple[str, str]:
    """Names of the instruction that encloses `place`, and of the one behind it: where a probe could be instead."""
    before = place.offset - (place.vaddr - insn.address)
    name = place.symbol or hex(place.vaddr)
    return f"{name}+{before:#x}", f"{name}+{before + insn.length:#x}"


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
