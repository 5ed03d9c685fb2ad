"""Why a place cannot be probed: a closed list, one sentence each, for exceptions, ``explain`` and the documents."""

from __future__ import annotations

from enum import IntEnum

_BEFORE = "probe the instruction before it"


class Refusal(IntEnum):
    """The numbers are those of ``enum refusal`` in ``uprobe_core/abi.h``."""

    sentence: str
    """The fact: lower case, no full stop."""
    hint: str | None
    """The way out, where there is one."""

    def __new__(cls, value: int, sentence: str, hint: str | None = None) -> Refusal:
        """Keep the words beside the number."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        member.hint = hint
        return member

    NONE = 0, "the place can be probed"
    UNDECODABLE = 1, "the bytes are no instruction of this processor", "is it data, or inside an instruction?"
    TRUNCATED = 2, "the instruction runs past the end of its mapping"
    VENDOR = 3, "AMD and Intel processors disagree on what these bytes do", _BEFORE
    TRAPS_ITSELF = 4, "the instruction raises a trap of the program's own (int3, int1, int n)", _BEFORE
    ALWAYS_FAULTS = 5, "the instruction always faults (ud2, hlt), and its handler may look at the bytes", _BEFORE
    SHADOW = 6, "the instruction holds traps off past the one that follows it", "mode='trap'"
    TRANSACTION = 7, "a trap would abort the transaction that the instruction begins, ends or aborts"
    MODE = 8, "the mode that was asked for cannot run this instruction", "mode='auto'"
    STRATEGY = 9, "the rip strategy that was asked for cannot reach this operand", "rip='auto'"
    TOO_LONG = 10, "the copy would be longer than the 15 bytes that an instruction may have", "rip='auto'"
    NO_SCRATCH = 11, "no register is free to hold the operand's address", "rip='auto'"
    FAR_TRANSFER = 12, "a far call pushes the address of the copy, in a size that depends on the vendor", _BEFORE
    INSIDE = 13, "the address is inside an instruction", "probe the instruction's first byte"
    NOT_EXECUTABLE = 14, "no executable memory is mapped there"
    SHARED = 15, "the mapping is shared and writable: a probe would change the file itself"
    CHANGED = 16, "memory differs from the file: another tool, or the program itself, has patched it"
    OCCUPIED = 17, "another site overlaps"
    NO_ROOM = 18, "no slot can be had within reach, and the instruction cannot be emulated", "mode='step'"
    BITS = 19, "it is 32-bit code"
    RSEQ = 20, "it is inside a restartable sequence, which a stop would restart for ever", "probe after the sequence"
    RESTORER = 21, "it is the signal restorer, which unwinders recognise by its bytes"
    NO_START = 22, "no symbol or unwind entry says where instructions begin", "probe a function's first byte"
