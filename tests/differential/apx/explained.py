"""Where LLVM or libopcodes differs from us on APX, and why ours is right all the same: one function a reason."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.differential.apx.spaces import EVEX, LEGACY_PREFIXES, REX2

LLVM, LIBOPCODES = "llvm", "libopcodes"


@dataclass(frozen=True)
class Disagreement:
    """One sequence on which a judge differs."""

    judge: str
    code: bytes
    ours: int  # length; 0: refused
    theirs: int
    ask: Callable[[bytes], int]  # our length of other bytes

    @property
    def start(self) -> int:
        """Where the prefixes before REX2 or EVEX end."""
        return next(place for place, byte in enumerate(self.code) if byte not in LEGACY_PREFIXES)

    @property
    def prefixes(self) -> frozenset[int]:
        """The prefixes before it."""
        return frozenset(self.code[: self.start])

    def part(self, place: int) -> int:
        """The byte so many bytes after the beginning of REX2 or EVEX."""
        return self.code[self.start + place]

    @property
    def is_rex2(self) -> bool:
        """Whether it begins with REX2."""
        return self.part(0) == REX2

    @property
    def is_map4(self) -> bool:
        """Whether it is EVEX map 4."""
        return self.part(0) == EVEX and self.part(1) & 7 == 4

    @property
    def row(self) -> int:
        """Of REX2: map and row of the opcode, as in 0x13 for 0F 30 to 0F 3F."""
        return (self.part(1) & 0x80) >> 3 | self.part(2) >> 4

    def with_parts(self, values: dict[int, int]) -> int:
        """Our length with these bytes changed."""
        changed = bytearray(self.code)
        for place, value in values.items():
            changed[self.start + place] = value
        return self.ask(bytes(changed))


def rows_without_rex2(case: Disagreement) -> bool:
    """Rows 4, 7, A and E of the one-byte map, 3 and 8 of map 0F have no REX2 form; LLVM does not look, libopcodes
    forgets row 4."""
    known = {LLVM: {0x04, 0x07, 0x0A, 0x0E, 0x13, 0x18}, LIBOPCODES: {0x04}}[case.judge]
    return case.is_rex2 and not case.ours and case.row in known


def rex2_before_an_escape(case: Disagreement) -> bool:
    """0F after REX2 is no escape: map 1 is chosen by a bit, and has no 3DNow! there. Both take it for one, and LLVM
    other prefixes after REX2."""
    escapes = {0x0F} if case.judge == LIBOPCODES else {0x0F, *LEGACY_PREFIXES}
    return case.is_rex2 and not case.ours and case.part(2) in escapes


def state_without_rex2(case: Disagreement) -> bool:
    """XSAVE and its kin have no REX2 form; LLVM does not look."""
    return case.judge == LLVM and case.is_rex2 and not case.ours and case.row in (0x1A, 0x1C)


def jmpabs_alone(case: Disagreement) -> bool:
    """JMPABS takes neither W nor 66, 67, F2, F3 or LOCK; LLVM does not look."""
    return case.judge == LLVM and case.is_rex2 and case.part(2) == 0xA1


def rex_before_rex2(case: Disagreement) -> bool:
    """REX before REX2 or EVEX is illegal; LLVM forgets the REX, libopcodes shows it as an instruction of its own."""
    return 0x40 <= case.part(0) < 0x50 and not case.ours


def no_base_whatever_b4(case: Disagreement) -> bool:
    """SIB base 101 with mod 0 is a disp32, whatever B3 and B4; LLVM takes r21 for a base."""
    return case.judge == LLVM and case.ours == case.theirs + 4


def operand_size_beside_w(case: Disagreement) -> bool:
    """66 is a mandatory prefix in map 1 whatever REX2.W; LLVM has no entry for some of them with both."""
    return case.judge == LLVM and case.ours > 0 and 0x66 in case.prefixes and case.part(1) & 0x88 == 0x88


def control_registers(case: Disagreement) -> bool:
    """There is no control or debug register from 16 on: R4 is illegal; libopcodes does not look."""
    return case.is_rex2 and not case.ours and case.part(1) & 0xC0 == 0xC0 and case.part(2) in range(0x20, 0x24)


def unused_fields(case: Disagreement) -> bool:
    """A promoted instruction has one pp, or two where 66 is its operand size, and the fields of EVEX that it does not
    use must be as if there were none; neither decoder looks at all of them."""
    if case.ours or not case.is_map4:
        return False
    second = [case.part(2) & ~3 | pp | vvvv for pp in range(4) for vvvv in (0, 0x78)]
    third = [case.part(3) & kept | v4 for kept in (0x1C, 0x0C, 0x18, 0x08) for v4 in (0, 8)]
    return any(case.with_parts({2: one, 3: other}) for one in second for other in third)


def zeroing_multiply(case: Disagreement) -> bool:
    """IMUL of 16 bits with ZU and NF both; LLVM has no entry for it."""
    both = case.is_map4 and case.part(4) in (0x69, 0x6B) and case.part(3) & 0x14 == 0x14
    return case.judge == LLVM and case.ours > 0 and both


def unused_bits(case: Disagreement) -> bool:
    """R4, X4 and B4 are ignored where nothing uses them, as by a mask register or a vector of indices; libopcodes
    refuses some."""
    set_bits = case.part(1) & 8 or not case.part(2) & 4
    return case.judge == LIBOPCODES and case.ours > 0 and case.part(0) == EVEX and not case.is_map4 and bool(set_bits)


def bound_registers(case: Disagreement) -> bool:
    """Without MPX 0F 1A and 0F 1B are nops, whatever registers they name; libopcodes knows four."""
    return case.judge == LIBOPCODES and case.is_rex2 and case.ours > 0 and case.row == 0x11


def ignored_w(case: Disagreement) -> bool:
    """W is ignored where the operands have one size (SETcc, MOVDIR64B, CCMP of bytes …); LLVM wants it clear."""
    return case.judge == LLVM and case.ours > 0 and case.is_map4 and case.part(2) & 0x80 > 0


def aliases(case: Disagreement) -> bool:
    """C0, C1 and D0 to D3 /6 are SAL, F6 and F7 /1 are CTEST, as the processor has TEST there; LLVM knows neither."""
    opcodes = {0xC0, 0xC1, 0xD0, 0xD1, 0xD2, 0xD3, 0xF6, 0xF7}
    return case.judge == LLVM and case.ours > 0 and case.is_map4 and case.part(4) in opcodes


def index_without_memory(case: Disagreement) -> bool:
    """X4 set without memory is illegal; LLVM does not look."""
    return case.judge == LLVM and not case.ours and case.part(0) == EVEX and not case.part(2) & 4


def push2_pop2(case: Disagreement) -> bool:
    """PUSH2 and POP2 have ND set and no memory, name no rsp, and POP2 not one register twice; neither decoder looks
    at all of it."""
    return not case.ours and case.is_map4 and case.part(4) in (0x8F, 0xFF)


REASONS = (
    rows_without_rex2,
    rex2_before_an_escape,
    state_without_rex2,
    jmpabs_alone,
    rex_before_rex2,
    no_base_whatever_b4,
    operand_size_beside_w,
    control_registers,
    unused_fields,
    zeroing_multiply,
    unused_bits,
    bound_registers,
    ignored_w,
    aliases,
    index_without_memory,
    push2_pop2,
)


def reason(case: Disagreement) -> Callable[[Disagreement], bool] | None:
    """The reason for a disagreement, if it is one of those above."""
    return next((why for why in REASONS if why(case)), None)
