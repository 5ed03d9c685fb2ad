"""Sweeps over libraries with hand-written SIMD: ours, iced-x86 and Zydis find the same instructions."""

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.differential import iced, zydis
from tests.differential.code import library, text_of

insn = pytest.importorskip("uprobes.insn")

# Debian packages: libopenblas0-pthread, libdav1d6, libavcodec59, libssl3.
LIBRARIES = {
    "openblas": "openblas-pthread/libopenblasp-r*.so",
    "dav1d": "libdav1d.so.6*",
    "avcodec": "libavcodec.so.59*",
    "crypto": "libcrypto.so.3",
    "libc": "libc.so.6",
}
AT_ONCE = 1 << 20  # instructions compared at once
# Where another decoder is known to be wrong: the start of the bytes, as hexadecimal, and why.
EXPLAINED = {
    "iced": (),
    "zydis": (
        (re.compile("0fff"), "ud0: AMD processors fetch no ModRM"),
        (re.compile("c5..8[45]"), "jkzd and jknzd existed on Knights Corner only"),
    ),
}
ADDRESS = 0x400000


@pytest.fixture(params=LIBRARIES)
def text(request) -> bytes:
    path = library(LIBRARIES[request.param])
    if path is None:
        pytest.skip(f"{LIBRARIES[request.param]} is not installed")
    return text_of(path)


def windows(text: bytes, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """The 16 bytes from each offset on, zeros past the end."""
    padded = np.frombuffer(text + bytes(16), np.uint8)
    return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(padded, 16)[offsets])


def swept(text: bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Where our sweep stopped, and the lengths found there; 0 where there is no instruction."""
    listing = insn.decode_all(text, ADDRESS)
    offsets = np.asarray(listing.addresses).astype(np.int64) - ADDRESS
    lengths = np.where(np.asarray(listing.statuses) == 0, np.asarray(listing.lengths), 0)
    return offsets, lengths.astype(np.uint8)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("judge", ["iced", "zydis"])
def test_sweep_finds_the_same_instructions(text, judge):
    if judge == "zydis" and not zydis.available():
        pytest.skip("libzydis-dev is not installed")
    find_lengths = {"iced": iced.lengths, "zydis": zydis.lengths}[judge]
    offsets, lengths = swept(text)
    assert len(offsets) > 1000
    for first in range(0, len(offsets), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        codes = windows(text, offsets[part])
        theirs = find_lengths(codes, np.full(len(codes), 64, np.uint8))
        complete = offsets[part] + 15 < len(text)
        differs = np.flatnonzero((theirs != lengths[part]) & complete)
        unexplained = []
        for row in differs:
            code = codes[row].tobytes().hex()
            if not any(start.match(code) for start, _ in EXPLAINED[judge]):
                said = f"{lengths[part][row]} here, {theirs[row]} there"
                unexplained.append(f"{offsets[part][row]:#x}: {code}: {said}")
        assert not unexplained, "\n".join(unexplained[:20])


@pytest.mark.timeout(300)
def test_targets_are_the_same(text):
    """Branches and rip-relative operands lead where iced says."""
    listing = insn.decode_all(text, ADDRESS)
    decoder = iced.Decoder(64, text, iced.OPTIONS, ADDRESS)
    instruction = iced.Instruction()
    compared = 0
    for address, status, target in zip(listing.addresses, listing.statuses, listing.targets, strict=True):
        if status != 0:
            continue
        decoder.position, decoder.ip = address - ADDRESS, address
        decoder.decode_out(instruction)
        expected = iced.target(instruction)
        compared += expected != 0
        assert target == expected, f"{address:#x}: {instruction}: {target:#x} here, {expected:#x} there"
    assert compared > 100


def test_libraries_are_found_by_path():
    assert library("libc.so.6") in (
        Path("/usr/lib/x86_64-linux-gnu/libc.so.6"),
        Path("/lib/x86_64-linux-gnu/libc.so.6"),
    )
