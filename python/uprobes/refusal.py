"""Why a place cannot be probed: a closed list, one sentence each, for exceptions, ``explain`` and the documents."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Refusal(IntEnum):
    """The numbers are those of ``enum refusal`` in ``uprobe_core/abi.h``."""

    NONE = 0
    UNDECODABLE = 1
    TRUNCATED = 2
    VENDOR = 3
    TRAPS_ITSELF = 4
    ALWAYS_FAULTS = 5
    SHADOW = 6
    TRANSACTION = 7
    MODE = 8
    STRATEGY = 9
    TOO_LONG = 10
    NO_SCRATCH = 11
    FAR_TRANSFER = 12
    INSIDE = 13
    NOT_EXECUTABLE = 14
    SHARED = 15
    CHANGED = 16
    OCCUPIED = 17
    NO_ROOM = 18
    BITS = 19
    RSEQ = 20
    RESTORER = 21
    NO_START = 22
    SHORT = 23
    LED_INTO = 24
    INDIRECT = 25
    PAGE = 26
    FAULTS = 27
    SYSTEM_CALL = 28
    SIGTRAP = 29
    SHADOW_STACK = 30

    @property
    def sentence(self) -> str:
        """The fact: lower case, no full stop."""
        return _WORDS[self][0]

    @property
    def hint(self) -> str | None:
        """The way out, where there is one."""
        return _WORDS[self][1]


_BEFORE: Final = "probe the instruction before it"
_TRAP: Final = "mode='trap'"
_WORDS: Final[dict[Refusal, tuple[str, str | None]]] = {
    Refusal.NONE: ("the place can be probed", None),
    Refusal.UNDECODABLE: ("the bytes are no instruction of this processor", "is it data, or inside an instruction?"),
    Refusal.TRUNCATED: ("the instruction runs past the end of its mapping", None),
    Refusal.VENDOR: ("AMD and Intel processors disagree on what these bytes do", _BEFORE),
    Refusal.TRAPS_ITSELF: ("the instruction raises a trap of the program's own (int3, int1, int n)", _BEFORE),
    Refusal.ALWAYS_FAULTS: ("the instruction always faults (ud2, hlt), and its handler may look at the bytes", _BEFORE),
    Refusal.SHADOW: ("the instruction holds traps off past the one that follows it", "mode='trap'"),
    Refusal.TRANSACTION: ("a trap would abort the transaction that the instruction begins, ends or is part of", None),
    Refusal.MODE: ("the mode that was asked for cannot run this instruction", "mode='auto'"),
    Refusal.STRATEGY: ("the rip strategy that was asked for cannot reach this operand", "rip='auto'"),
    Refusal.TOO_LONG: ("the copy would be longer than the 15 bytes that an instruction may have", "rip='auto'"),
    Refusal.NO_SCRATCH: ("no register is free to hold the operand's address", "rip='auto'"),
    Refusal.FAR_TRANSFER: ("a far call pushes the address of the copy, in a size that depends on the vendor", _BEFORE),
    Refusal.INSIDE: ("the address is inside an instruction", "probe the instruction's first byte"),
    Refusal.NOT_EXECUTABLE: ("no executable memory is mapped there", None),
    Refusal.SHARED: ("the mapping is shared and writable: a probe would change the file itself", None),
    Refusal.CHANGED: ("memory differs from the file: another tool, or the program itself, has patched it", None),
    Refusal.OCCUPIED: ("another site overlaps", None),
    Refusal.NO_ROOM: ("no slot can be had within reach, and the instruction cannot be emulated", "mode='step'"),
    Refusal.BITS: ("it is 32-bit code", None),
    Refusal.RSEQ: (
        "it is inside a restartable sequence, which a stop would restart for ever",
        "probe after the sequence",
    ),
    Refusal.RESTORER: ("it is the signal restorer, which unwinders recognise by its bytes", None),
    Refusal.SIGTRAP: (
        "a thread of the process blocks SIGTRAP: a breakpoint would unblock it, and be fatal if the tracer were lost",
        "mode='trap' or mode='step' does it all the same",
    ),
    Refusal.NO_START: ("no symbol or unwind entry says where instructions begin", "probe a function's first byte"),
    Refusal.SHORT: ("a jump has five bytes, and control may come in before so many have passed", _TRAP),
    Refusal.LED_INTO: ("control may come into the middle of the instruction", _TRAP),
    Refusal.INDIRECT: ("the function has a computed jump, and it is not known where that leads", _TRAP),
    Refusal.PAGE: ("the five bytes of a jump would reach into the next page", _TRAP),
    Refusal.FAULTS: ("an instruction among the five bytes may fault, and the program handles faults", _TRAP),
    Refusal.SYSTEM_CALL: ("a system call has to be made at its own address", _TRAP),
    Refusal.SHADOW_STACK: (
        "a call: the processor keeps the program's return addresses (shadow stack), and would not know the one made up",
        "probe the called function, or the instruction after the call",
    ),
}
