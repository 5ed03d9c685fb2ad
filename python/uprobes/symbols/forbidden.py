"""Code that must stay as it is, as far as the file itself tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from uprobes.refusal import Refusal
from uprobes.symbols.relocations import read_restartable_sequences

if TYPE_CHECKING:
    from uprobes.symbols.elf import ElfFile

SIGNATURE_SIZE: Final = 4
"""Bytes before the abort handler of a restartable sequence, which the kernel compares (linux/rseq.h)."""
RESTORER: Final = bytes.fromhex("48 c7 c0 0f 00 00 00 0f 05")
"""mov $__NR_rt_sigreturn,%rax; syscall: libgcc and gdb know a signal frame by these very bytes."""


class Forbidden(NamedTuple):
    """A half-open range of addresses, and why no probe may be in it."""

    start: int
    end: int
    refusal: Refusal


def read_forbidden(elf: ElfFile) -> tuple[Forbidden, ...]:
    """All such ranges of a file."""
    found = []
    for sequence in read_restartable_sequences(elf):
        found.append(Forbidden(sequence.start_vaddr, sequence.end_vaddr, Refusal.RSEQ))
        signature = sequence.abort_vaddr - SIGNATURE_SIZE
        found.append(Forbidden(signature, sequence.abort_vaddr, Refusal.RSEQ))
    for start, end in elf.code_ranges:
        code = elf.read(start, end - start)
        place = code.find(RESTORER)
        while place >= 0:
            found.append(Forbidden(start + place, start + place + len(RESTORER), Refusal.RESTORER))
            place = code.find(RESTORER, place + 1)
    return tuple(found)
