"""Sequences with APX's prefixes, and for each its twin: the same without what APX adds, where there is such a thing."""

import numpy as np

from tests.differential.spaces import MODRM, OPCODES, SPACES, TAIL, Axis, Codes, Space, every_byte, hexes

PREFIXES = Axis(hexes("- 66 f2 f3 67 64 2e 6667 f0 48"), [60, 10, 3, 3, 4, 3, 2, 1, 2, 1])
LEGACY_PREFIXES = frozenset(bytes.fromhex("26 2e 36 3e 64 65 66 67 f0 f2 f3"))
REX2, EVEX = 0xD5, 0x62


def map4() -> Space:
    """EVEX map 4: every opcode under the payloads that mean something there, and others."""
    p0 = every_byte([high | 4 for high in range(0, 256, 8)], 0.99)
    p1 = every_byte([w | v | u | pp for w in (0, 0x80) for v in (0x78, 0x60) for u in (4, 0) for pp in range(4)], 0.8)
    p2 = every_byte([nd | v | nf for nd in (0, 0x10) for v in (8, 0) for nf in (0, 4)], 0.8)
    return Space("map4", 64, (Axis([b"", b"\x67"], [20, 1]), Axis([b"\x62"]), p0, p1, p2, OPCODES, MODRM, TAIL))


def promoted() -> Space:
    """EVEX forms of what VEX encodes: mask moves, tiles, CMPccXADD, BMI."""
    opcodes = bytes([*range(0x90, 0x94), 0x49, 0x4B, *range(0xE0, 0xF8)])
    p0 = Axis([bytes([high | number]) for high in range(0, 256, 8) for number in (1, 2, 3)])
    p1 = every_byte([w | v | 4 | pp for w in (0, 0x80) for v in (0x78, 0x60) for pp in range(4)], 0.8)
    p2 = every_byte([8, 0x0C, 0, 0x28], 0.8)
    axes = (p0, p1, p2, Axis([bytes([opcode]) for opcode in opcodes]), MODRM, TAIL)
    return Space("promoted", 64, (Axis([b"\x62"]), *axes))


def rex2() -> Space:
    """REX2 with every opcode of both maps."""
    return Space("rex2", 64, (PREFIXES, Axis([b"\xd5"]), every_byte(), OPCODES, MODRM, TAIL))


def extended(rng: np.random.Generator, count: int) -> Codes:
    """EVEX instructions of the maps for vectors, with B4 and X4 set at random."""
    space = next(space for space in SPACES if space.name == "evex-64")
    codes = space.sample(rng, count)
    codes = codes[(codes[:, 0] == EVEX) & np.isin(codes[:, 1] & 7, (1, 2, 3, 5, 6))]
    codes[:, 1] = codes[:, 1] & 0xF7 | rng.integers(0, 2, len(codes), np.uint8) << 3
    codes[:, 2] = codes[:, 2] & 0xFB | rng.integers(0, 2, len(codes), np.uint8) << 2
    return codes


def without_apx(code: bytes) -> bytes | None:
    """The twin of REX2 is REX, with 0F for map 1; that of EVEX has B4 and X4 clear. None: APX alone has the map."""
    start = next((place for place, byte in enumerate(code) if byte not in LEGACY_PREFIXES), 0)
    payload = code[start + 1 : start + 2]
    if code[start] == REX2 and payload:
        middle = bytes([0x40 | payload[0] & 15]) + (b"\x0f" if payload[0] & 0x80 else b"")
        return (code[:start] + middle + code[start + 2 :]).ljust(16, b"\0")
    if code[start] == EVEX and payload and payload[0] & 7 != 4:
        changed = bytearray(code)
        changed[start + 1] &= 0xF7
        changed[start + 2] |= 4
        return bytes(changed)
    return None
