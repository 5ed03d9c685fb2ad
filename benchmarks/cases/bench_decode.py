"""Decoding: a mebibyte of a library's code in one go, and single instructions from Python; Zydis and iced beside it.

iced is Rust, but can be had through Python alone. So its decoder is what a call costs on code, less what the same call
costs at the end of the bytes, where there is nothing to decode: that leaves out what every decoding begins with, in
iced's favour.
"""

import time

import pytest

from benchmarks.compare import zydis
from benchmarks.core import load_loops
from uprobes.cli.files import find_file
from uprobes.insn import decode, decode_all
from uprobes.symbols.binary import Binary

iced_x86 = pytest.importorskip("iced_x86")

ONE = bytes.fromhex("488b0500100000")  # mov rax, [rip+0x1000]
SITE = 0x401000
LIBRARIES = ("libc", "libcrypto", "libstdc++", "libdav1d")


@pytest.fixture(scope="module", params=LIBRARIES)
def text(request) -> bytes:
    """The first mebibyte of a library's code."""
    path = find_file(request.param)
    with Binary.open(path) as binary:
        start, end = max(binary.elf.code_ranges, key=lambda span: span[1] - span[0])
        return binary.elf.read(start, min(end - start, 1 << 20))


def bench_decode(benchmark, text):
    """Fields and class, in one loop without the GIL."""
    count = benchmark(load_loops().decode_buffer, text)
    benchmark.extra_info.update(unit="instruction", per=count)


def bench_decode_with_masks(benchmark, text):
    """The same and register and flag masks."""
    count = benchmark(load_loops().decode_buffer_masks, text)
    benchmark.extra_info.update(unit="instruction", per=count)


@pytest.mark.parametrize("effects", [False, True], ids=["plain", "effects"])
def bench_decode_all(benchmark, text, effects):
    """Into arrays that Python reads."""
    listing = benchmark(decode_all, text, effects=effects)
    benchmark.extra_info.update(unit="instruction", per=len(listing))


def bench_zydis_decode(benchmark, text):
    """Zydis over the same bytes, with all operands; the measure is half of it."""
    if not zydis.available():
        pytest.skip("libzydis-dev is not installed")
    benchmark.extra_info.update(unit="instruction", per=benchmark(zydis.load_sweep(), text))


def bench_iced_decode_alone(benchmark, text):
    """iced-x86's decoder without the way to it through Python."""
    loops, instruction, count = load_loops(), iced_x86.Instruction(), len(decode_all(text))

    def calls(code: bytes) -> float:
        decoder = iced_x86.Decoder(64, code)
        begin = time.perf_counter_ns()
        loops.call_repeatedly(decoder.decode_out, instruction, count)
        return (time.perf_counter_ns() - begin) / count

    ways = [calls(text) - calls(b"") for _ in range(9)]
    benchmark.pedantic(lambda: None)
    benchmark.extra_info.update(unit="instruction", ns=sorted(ways)[4])


def bench_iced_decode_loop(benchmark, text):
    """iced-x86 over the same bytes, the quickest way that it has from Python; most of it is the loop."""

    def run() -> int:
        decoder, instruction, count = iced_x86.Decoder(64, text), iced_x86.Instruction(), 0
        while decoder.can_decode:
            decoder.decode_out(instruction)
            count += 1
        return count

    benchmark.extra_info.update(unit="instruction", per=benchmark(run))


def bench_decode_one(benchmark):
    """One instruction as a Python object."""
    benchmark(decode, ONE, SITE)
    benchmark.extra_info.update(unit="call")


def bench_decode_one_and_ask(benchmark):
    """One instruction, and what a user asks of it."""

    def run() -> None:
        insn = decode(ONE, SITE)
        assert insn.mnemonic
        assert insn.writes
        assert insn.target

    benchmark(run)
    benchmark.extra_info.update(unit="call")


def bench_iced_decode_one(benchmark):
    """The same with iced-x86."""

    def run() -> None:
        iced_x86.Decoder(64, ONE, ip=SITE).decode()

    benchmark(run)
    benchmark.extra_info.update(unit="call")
