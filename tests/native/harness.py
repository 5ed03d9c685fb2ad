"""Generated hit code in this process: an area with its gate page, boards, and a library to call code with."""

import ctypes
import mmap
import os
from array import array
from functools import cache

from tests.oracle.build import ROOT, compile_program
from uprobe_core.x86.hitplan import HitPlan

PAGE = 4096
MASK = (1 << 64) - 1
NAMES = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{i}" for i in range(8, 16)), "flags")
# Caller-saved registers: what a function that is called as a C function may change.
SCRATCH = sum(1 << NAMES.index(name) for name in ("rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11"))
STATUS_FLAGS = 0x8D5  # OF SF ZF AF PF CF
SIGNATURE = 0x53053053


@cache
def library() -> ctypes.CDLL:
    """The harness, compiled."""
    path = compile_program(
        "harness", [ROOT / "tests" / "native" / "harness.c"], ("-O2", "-shared", "-fPIC", "-pthread")
    )
    made = ctypes.CDLL(str(path))
    made.storm.restype = ctypes.c_uint64
    made.call_ns.restype = ctypes.c_double
    made.tid_offset.restype = ctypes.c_int64
    return made


@cache
def rseq_offset() -> int | None:
    """Where glibc has registered struct rseq, from the fs base; None where it has not."""
    try:
        if not ctypes.c_uint.in_dll(ctypes.CDLL(None), "__rseq_size").value:
            return None
        return ctypes.c_ssize_t.in_dll(ctypes.CDLL(None), "__rseq_offset").value
    except ValueError:
        return None


@cache
def tid_offset() -> int:
    """Where a thread's number is in its control block."""
    return library().tid_offset()


def address_of(memory: mmap.mmap) -> int:
    """Where a mapping lies."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


class Board:
    """Strides for every possible processor, and one more."""

    def __init__(self, shift: int) -> None:
        self.shift = shift
        self.strides = (os.cpu_count() or 1) + 1
        self.memory = mmap.mmap(-1, max(self.strides << shift, PAGE))
        self.vaddr = address_of(self.memory)

    def word(self, cpu: int, offset: int) -> int:
        at = (cpu << self.shift) + offset
        return int.from_bytes(self.memory[at : at + 8], "little")

    def set_word(self, cpu: int, offset: int, value: int) -> None:
        at = (cpu << self.shift) + offset
        self.memory[at : at + 8] = (value & MASK).to_bytes(8, "little")

    def sum(self, offset: int) -> int:
        """A counter over all processors."""
        return sum(self.word(cpu, offset) for cpu in range(self.strides))


class Area:
    """A gate page, and code behind it."""

    def __init__(self, pages: int = 4) -> None:
        self.memory = mmap.mmap(
            -1, PAGE * (1 + pages), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
            prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC,
        )
        self.memory.madvise(18, 0, PAGE)  # MADV_WIPEONFORK
        self.vaddr = address_of(self.memory)
        self.next = PAGE

    def open(self, board: Board, number: int = 0) -> None:
        self.memory[8 * number : 8 * number + 8] = (-board.vaddr & MASK).to_bytes(8, "little")

    def close(self, number: int = 0) -> None:
        self.memory[8 * number : 8 * number + 8] = bytes(8)

    def put(self, code: bytes) -> int:
        """Copy code to a place of its own; its address."""
        if rseq_offset() is not None:
            library().forget_sequence(ctypes.c_int64(rseq_offset()))
        at = self.next
        self.memory[at : at + len(code)] = code
        self.next = (at + len(code) + 63) // 64 * 64
        return self.vaddr + at

    def assemble(self, plan: HitPlan, **place):
        """The plan's code at the next place, or None where it cannot be; (address, bytes, sections)."""
        place.setdefault("rseq_offset", rseq_offset())
        place.setdefault("signature", SIGNATURE)
        place.setdefault("tid_offset", tid_offset())
        made = plan.assemble(self.vaddr + self.next, gate_vaddr=self.vaddr, **place)
        return None if made is None else (self.put(made[0]), *made)

    def function(self, plan: HitPlan, dead: int = SCRATCH, flags_dead: bool = True, **place) -> int:
        """The plan's code as a C function."""
        made = self.assemble(plan, dead=dead, flags_dead=flags_dead, suffix=b"\xc3", **place)
        assert made is not None
        return made[0]

    def machine(self, plan: HitPlan, **place) -> int:
        """The plan's code as code for `run`: it ends in a jump through the last word of the gate page. (Aligned: it has to
        work where alignment is checked.)"""
        leave = ctypes.cast(library().machine_leave, ctypes.c_void_p).value
        self.memory[PAGE - 8 : PAGE] = leave.to_bytes(8, "little")
        here = self.next
        mark = b"\xff\x25\xcc\xcc\xcc\xcc"
        made = self.assemble(plan, suffix=mark, **place)
        assert made is not None
        at = here + made[1].rindex(mark) + 2
        self.memory[at : at + 4] = (PAGE - 8 - (at + 4)).to_bytes(4, "little", signed=True)
        return made[0]


def run(code: int, state: dict[str, int]) -> dict[str, int]:
    """Run code that ends in machine_leave from a state; the state after it."""
    words = (ctypes.c_uint64 * 17).in_dll(library(), "machine_state")
    for index, name in enumerate(NAMES):
        words[index] = state[name]
    library().machine_aim(ctypes.c_uint64(code))
    library().machine_enter()
    return {name: words[index] for index, name in enumerate(NAMES)}


def storm(
    code: int, threads: int, calls: int, *, hops: int = 0, signals: bool = False
) -> tuple[int, list[int], list[int]]:
    """Call a function from threads under signals: how often it was called, the threads' numbers and their calls."""
    tids, counts = array("i", bytes(4 * threads)), array("Q", bytes(8 * threads))
    total = library().storm(
        ctypes.c_void_p(code), threads, ctypes.c_uint64(calls), hops, int(signals),
        ctypes.c_void_p(tids.buffer_info()[0]), ctypes.c_void_p(counts.buffer_info()[0]),
    )
    return total, tids.tolist(), counts.tolist()


def call_ns(code: int, calls: int = 2_000_000, threads: int = 1, first: int = 0) -> float:
    """Nanoseconds a call takes; with several threads the slowest one's, each on a processor of its own."""
    return library().call_ns(ctypes.c_void_p(code), ctypes.c_uint64(calls), threads, first)
