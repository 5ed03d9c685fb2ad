"""Whether an address begins an instruction, by decoding from a start that something vouches for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uprobes.insn import decode_all

if TYPE_CHECKING:
    from uprobes.place import Place
    from uprobes.process import Mapping


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
