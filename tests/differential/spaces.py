"""Spaces of byte sequences: the whole encoding space, cut into regions that can be sampled or walked.

A space is a product of axes; an axis is a table of byte strings with weights. A sequence takes one string
of every axis, in order. Sampling draws by weight from a seeded generator; walking enumerates the product, so
that a run can be resumed at any index.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

WIDTH = 16  # bytes a row; an instruction has at most 15
Codes = npt.NDArray[np.uint8]


class Axis:
    """Alternatives for one part of an instruction."""

    def __init__(self, strings: Sequence[bytes], weights: Sequence[float] | None = None) -> None:
        self.lengths = np.array([len(string) for string in strings])
        self.table = np.zeros((len(strings), max(1, self.lengths.max())), np.uint8)
        for row, string in zip(self.table, strings, strict=True):
            row[: len(string)] = np.frombuffer(string, np.uint8)
        share = np.ones(len(strings)) if weights is None else np.array(weights, float)
        self.cumulative = np.cumsum(share / share.sum())

    def __len__(self) -> int:
        return len(self.lengths)

    def draw(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
        """Indices of `count` alternatives, by weight."""
        return np.minimum(np.searchsorted(self.cumulative, rng.random(count)), len(self) - 1)


def every_byte(preferred: Sequence[int] = (), weight: float = 0) -> Axis:
    """All 256 bytes; the preferred ones share `weight` of the draws among them."""
    weights = np.full(256, 1.0)
    if preferred:
        weights[:] = (1 - weight) / (256 - len(preferred))
        weights[list(preferred)] = weight / len(preferred)
    return Axis([bytes([value]) for value in range(256)], weights.tolist())


@dataclass(frozen=True)
class Space:
    """A named product of axes, in one mode."""

    name: str
    bits: int
    axes: tuple[Axis, ...]

    @cached_property
    def size(self) -> int:
        """How many sequences there are."""
        return int(np.prod([len(axis) for axis in self.axes], dtype=object))

    def sample(self, rng: np.random.Generator, count: int) -> Codes:
        """`count` sequences drawn by the weights of the axes."""
        return self.assemble([axis.draw(rng, count) for axis in self.axes])

    def walk(self, first: int, count: int) -> Codes:
        """Sequences first … first + count - 1 of the product.

        The tail turns slowest: the beginning of a walk meets every prefix with every opcode and ModRM.
        """
        index = np.arange(first, min(first + count, self.size), dtype=np.uint64)
        *heads, tail = self.axes
        picks = []
        for axis in (*reversed(heads), tail):
            picks.append((index % np.uint64(len(axis))).astype(np.int64))
            index //= np.uint64(len(axis))
        *head_picks, tail_pick = picks
        return self.assemble([*reversed(head_picks), tail_pick])

    def assemble(self, picks: Sequence[npt.NDArray[np.int64]]) -> Codes:
        """Put the picked strings of every axis side by side; what goes beyond the row is cut off."""
        count = len(picks[0])
        codes = np.zeros((count, WIDTH), np.uint8)
        place = np.zeros(count, np.int64)
        rows = np.arange(count)
        for axis, pick in zip(self.axes, picks, strict=True):
            for column in range(axis.table.shape[1]):
                fits = (column < axis.lengths[pick]) & (place + column < WIDTH)
                codes[rows[fits], place[fits] + column] = axis.table[pick[fits], column]
            place += axis.lengths[pick]
        return codes


# ---- axes -------------------------------------------------------------------------------------------


def hexes(text: str) -> list[bytes]:
    """Byte strings from words of hex; `-` is the empty one."""
    return [b"" if word == "-" else bytes.fromhex(word) for word in text.split()]


LEGACY_PREFIXES = hexes(
    "- 66 f2 f3 f0 67 2e 36 3e 26 64 65 66f2 66f3 f266 f366 f2f3 f3f2 66f2f3 f066 f0f2 f0f3 f266f0"
    " 6766 67f3 6666 2e64"
)
REX_PREFIXES = hexes(
    "40 41 42 44 45 48 49 4c 4f 6640 6641 6644 6648 664f f240 f241 f244 f248 f340 f341 f344 f348 f34f 66f348"
    " 6641f2 4866 41f3 48f2 4841 4048 66f248 6748 6741 f048 f041 6448 2e48 66f066 48f0 4867 4164"
)
MAPS = hexes("- 0f 0f38 0f3a")
# A SIB byte where one is needed, a displacement and immediates: small, so that data lies in mapped memory.
TAILS = hexes(
    "24400000000000000011 0840000000000000aa 25408000204000001122 6440000000400000c0 3c80ffffffc0ffffff00"
    " e511223344556677 00000000000000000000 40000000000000000000 a0a1a2a3a4a5a6a7a8a9 ffffffffffffffffffff"
    " 05001000200000000033 2cf0f1f2f3f4f5f6"
)
REPEATED_PREFIXES = (0x66, 0x2E, 0x67, 0xF3, 0xF2, 0x48)
NEAR_LIMIT = [bytes([prefix]) * count for prefix in REPEATED_PREFIXES for count in range(4, 15)]

OPCODES = every_byte()
MODRM = every_byte()
TAIL = Axis(TAILS)


def legacy(bits: int) -> Space:
    """Every opcode of the legacy maps with every ModRM byte, under prefixes alone and combined."""
    prefixes = LEGACY_PREFIXES + REX_PREFIXES if bits == 64 else LEGACY_PREFIXES
    return Space(f"legacy-{bits}", bits, (Axis(prefixes), Axis(MAPS), OPCODES, MODRM, TAIL))


def long_prefixes(bits: int) -> Space:
    """Instructions that end near, at or past the 15-byte limit."""
    return Space(f"long-{bits}", bits, (Axis(NEAR_LIMIT), Axis(MAPS, [4, 2, 1, 1]), OPCODES, MODRM, TAIL))


OUTER_PREFIX = Axis(hexes("- 2e 64 67 6765 66 f2 f3 f0 48"), [100, 1, 1, 2, 1, 1, 1, 1, 1, 1])
VVVV_UNUSED = [
    (w << 7) | 0x78 | (vector << 2) | pp for w in range(2) for vector in range(2) for pp in range(4)
]


def inverted_rxb(bits: int) -> list[int]:
    """The top three bits of a VEX, EVEX or XOP prefix; 32-bit mode needs the upper two set."""
    return [value << 5 for value in range(8)] if bits == 64 else [0xC0, 0xE0]


def vex2(bits: int) -> Space:
    """Every two-byte VEX prefix with every opcode."""
    high = (0, 0x80) if bits == 64 else (0x80,)
    payload = every_byte([value & 0x7F | r for value in VVVV_UNUSED[:8] for r in high], 0.5)
    return Space(f"vex2-{bits}", bits, (OUTER_PREFIX, Axis([b"\xc5"]), payload, OPCODES, MODRM, TAIL))


def vex3(bits: int) -> Space:
    """Every three-byte VEX prefix, all 32 map numbers, with every opcode."""
    maps = every_byte([rxb | vex_map for rxb in inverted_rxb(bits) for vex_map in (1, 2, 3)], 0.9)
    axes = (Axis([b"\xc4"]), maps, every_byte(VVVV_UNUSED, 0.4), OPCODES, MODRM, TAIL)
    return Space(f"vex3-{bits}", bits, (OUTER_PREFIX, *axes))


def evex(bits: int) -> Space:
    """EVEX prefixes: all of P0, P1 and P2, weighted towards the maps in use."""
    p0 = every_byte(
        [r | rxb | m for r in (0, 0x10) for rxb in inverted_rxb(bits) for m in (1, 2, 3, 5, 6)], 0.9
    )
    p1 = every_byte([value | 4 for value in VVVV_UNUSED if not value & 4], 0.4)
    lengths, masks = (0, 0x20, 0x40, 0x10, 0x30, 0x50, 0x70), (0x08, 0x09, 0x89)
    p2 = every_byte([length | mask for length in lengths for mask in masks], 0.7)
    return Space(f"evex-{bits}", bits, (OUTER_PREFIX, Axis([b"\x62"]), p0, p1, p2, OPCODES, MODRM, TAIL))


def xop(bits: int) -> Space:
    """XOP prefixes, all 32 map numbers."""
    maps = every_byte([rxb | xop_map for rxb in inverted_rxb(bits) for xop_map in (8, 9, 10)], 0.8)
    payload = every_byte(VVVV_UNUSED, 0.4)
    return Space(f"xop-{bits}", bits, (OUTER_PREFIX, Axis([b"\x8f"]), maps, payload, OPCODES, MODRM, TAIL))


def now3d(bits: int) -> Space:
    """3DNow!: the opcode is the byte after the operands."""
    return Space(
        f"3dnow-{bits}",
        bits,
        (OUTER_PREFIX, Axis([b"\x0f\x0f"]), every_byte(range(0xC0, 0x100), 0.9), OPCODES, TAIL),
    )


def rex2(bits: int) -> Space:
    """APX: REX2 in 64-bit mode; AAD with 32-bit operands' leftovers otherwise."""
    return Space(f"rex2-{bits}", bits, (OUTER_PREFIX, Axis([b"\xd5"]), every_byte(), OPCODES, MODRM, TAIL))


SPACES = tuple(
    space(bits) for bits in (64, 32) for space in (legacy, long_prefixes, vex2, vex3, evex, xop, now3d, rex2)
)

# ---- sequences without structure ----------------------------------------------------------------------

SOUP = np.array(
    [0x66, 0xF2, 0xF3, 0x67, 0x2E, 0x36, 0x3E, 0x26, 0x64, 0x65, 0xF0, *range(0x40, 0x50)], np.uint8
)


def random_codes(rng: np.random.Generator, count: int) -> Codes:
    """Up to 13 prefixes in any order, REX anywhere, then random bytes."""
    codes = rng.integers(0, 256, (count, WIDTH), np.uint8)
    prefixed = rng.choice(SOUP, (count, WIDTH))
    lengths = np.minimum(rng.geometric(0.35, count) - 1, 13)
    return np.where(np.arange(WIDTH) < lengths[:, None], prefixed, codes)


def mutated_codes(rng: np.random.Generator, count: int, seeds: Codes) -> Codes:
    """Known instructions with a byte changed, a bit flipped, a prefix put in front, or a byte taken out."""
    codes = seeds[rng.integers(0, len(seeds), count)].copy()
    rows, way = np.arange(count), rng.integers(0, 4, count)
    place = rng.integers(0, 6, count)
    changed, flipped, prefixed, shortened = (way == number for number in range(4))
    codes[rows[changed], place[changed]] = rng.integers(0, 256, changed.sum(), np.uint8)
    codes[rows[flipped], place[flipped]] ^= np.uint8(1) << rng.integers(0, 8, flipped.sum(), np.uint8)
    codes[prefixed, 1:] = codes[prefixed, :-1]
    codes[prefixed, 0] = rng.choice(SOUP, prefixed.sum())
    codes[shortened, :-1] = codes[shortened, 1:]
    return codes


def campaign(seed: int, total: int, seeds: Codes, batch: int = 65536) -> Iterator[tuple[str, int, Codes]]:
    """`total` sequences as (space name, bits, codes), a fixed sequence for each seed."""
    rng = np.random.default_rng(seed)
    weights = {"legacy": 4, "vex3": 2, "evex": 3}
    turns = [space for space in SPACES for _ in range(weights.get(space.name.split("-")[0], 1))]
    made = 0
    while made < total:
        for bits in (64, 32):
            yield f"random-{bits}", bits, random_codes(rng, batch)
            yield f"mutated-{bits}", bits, mutated_codes(rng, batch, seeds)
        for space in turns:
            yield space.name, space.bits, space.sample(rng, batch)
        made += batch * (4 + len(turns))
