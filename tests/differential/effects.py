"""Register and flag masks in iced's words, to compare with ours."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from iced_x86 import Instruction, InstructionInfoFactory, OpAccess, Register, RegisterExt, RflagsBits

READS = frozenset({OpAccess.READ, OpAccess.COND_READ, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE})
WRITES = frozenset({OpAccess.WRITE, OpAccess.COND_WRITE, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE})
# EFLAGS bit positions of the flags that both know.
FLAG_BITS = {
    RflagsBits.CF: 0x1,
    RflagsBits.PF: 0x4,
    RflagsBits.AF: 0x10,
    RflagsBits.ZF: 0x40,
    RflagsBits.SF: 0x80,
    RflagsBits.IF: 0x200,
    RflagsBits.DF: 0x400,
    RflagsBits.OF: 0x800,
    RflagsBits.AC: 0x40000,
}
ALL_FLAGS = sum(FLAG_BITS.values())
GENERAL = {
    getattr(Register, name.upper()): number
    for number, name in enumerate(
        ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{number}" for number in range(8, 16)))
    )
}


@dataclass(frozen=True)
class Masks:
    """What an instruction touches: general registers by number, flags by EFLAGS bit."""

    reads: int
    writes: int
    flags_read: int
    flags_written: int
    flags_undefined: int


class IcedMasks:
    """iced's masks; one object serves many instructions."""

    def __init__(self) -> None:
        self.factory = InstructionInfoFactory()

    def of(self, instruction: Instruction) -> Masks:
        """The masks of one valid instruction."""
        reads = writes = 0
        for used in self.factory.info(instruction).used_registers():
            number = GENERAL.get(RegisterExt.full_register(used.register))
            if number is not None:
                reads |= (used.access in READS) << number
                writes |= (used.access in WRITES) << number
        return Masks(
            reads,
            writes,
            flag_mask(instruction.rflags_read),
            flag_mask(instruction.rflags_modified),
            flag_mask(instruction.rflags_undefined),
        )


def flag_mask(rflags: int) -> int:
    """iced's flag bits as EFLAGS bits."""
    return sum(bit for flag, bit in FLAG_BITS.items() if rflags & flag)


def our_masks(effects: np.void) -> Masks:
    """Ours, cut down to what iced knows."""
    return Masks(
        int(effects["reads"]),
        int(effects["writes"]),
        int(effects["flags_read"]) & ALL_FLAGS,
        int(effects["flags_written"]) & ALL_FLAGS,
        int(effects["flags_undefined"]) & ALL_FLAGS,
    )


def differences(ours: Masks, theirs: Masks) -> Iterator[str]:
    """What ours have more and less than theirs: `reads more`, `flags_written less` …."""
    for field in fields(Masks):
        own, other = getattr(ours, field.name), getattr(theirs, field.name)
        if own & ~other:
            yield f"{field.name} more"
        if other & ~own:
            yield f"{field.name} less"
