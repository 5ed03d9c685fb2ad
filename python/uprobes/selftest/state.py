"""Register and memory states from which instructions run: everything set, nothing zero by chance."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

from uprobes.selftest.registers import GENERAL, register_get, register_set, registers_pack, registers_unpack
from uprobes.selftest.sandbox import (
    DATA_ALIAS_VADDR,
    DATA_VADDR,
    SITE_IP,
    STACK_VADDR,
    TILE_CONFIG,
    Sandbox,
)

IMAGE_SIZE = 4096
"""Bytes of data, and of stack, that a state sets and a judge compares."""
LANDING_IP = SITE_IP + 0x400
"""Where indirect branches of a state lead: an int3."""
POINTERS = ("rbx", "rbp", "rsi", "rdi", "r12", "r13", "r14", "r15")
"""Registers that hold addresses of data; the others hold small numbers."""
NO_SYSCALL = 1000  # and a small bit offset for bts and its kind

_XSAVE_LEAF = 0xD
_LEGACY_XMM = slice(160, 416)
_ST = slice(32, 160)
_ST_VALID_OFF = 4  # the abridged tag word
_ST_VALID = 0x3C  # four full, four empty: pushes and pops both succeed
_XTILECFG = 17
_BITMAP = slice(512, 520)
_FLAGS = 0x8D5  # OF SF ZF AF PF CF
_DF = 0x400
_AC = 0x4_0000  # unaligned accesses fault
_FIXED_FLAGS = 0x202


@dataclass(frozen=True, slots=True)
class State:
    """All that an instruction can read."""

    registers: bytes
    xstate: bytes
    data: bytes
    stack: bytes


@dataclass(frozen=True, slots=True)
class Component:
    """A part of the XSAVE area: "AVX", opmasks and so on by number."""

    number: int
    offset: int
    size: int


class StateMaker:
    """Makes states for one sandbox, reproducibly from a seed."""

    def __init__(self, sandbox: Sandbox, seed: int = 0) -> None:
        """Asks the sandbox's processor for the layout of its vector registers."""
        self._random = random.Random(seed)  # noqa: S311
        self._registers = registers_unpack(sandbox.registers())
        self._registers |= {"rip": SITE_IP, "orig_rax": (1 << 64) - 1}
        self._xstate = sandbox.xstate()
        self._components = _xsave_components(sandbox, registers_pack(self._registers))

    def make(self, *, control: bool = False) -> State:
        """control: every pointer in registers and memory is LANDING_IP, for branches that follow them."""
        return State(self._general(control), self._vectors(), self._image(control), self._image(control))

    def _general(self, control: bool) -> bytes:
        values = dict(self._registers)
        for name in GENERAL:
            middle = DATA_VADDR + IMAGE_SIZE // 2 + self._random.randrange(-16, 16) * 64
            values[name] = middle if name in POINTERS else self._random.randrange(1, 24)
        if control:
            values |= dict.fromkeys((*POINTERS, "r8", "r9", "r10", "r11"), LANDING_IP)
        values["rax"] = NO_SYSCALL
        values["rsp"] = STACK_VADDR + IMAGE_SIZE // 2
        values["eflags"] = _FIXED_FLAGS | (self._random.getrandbits(12) & _FLAGS)
        for flag, chance in ((_DF, 0.1), (_AC, 0.05)):
            if self._random.random() < chance:
                values["eflags"] |= flag
        values["fs_base"] = DATA_VADDR
        values["gs_base"] = DATA_VADDR + 64
        return registers_pack(values)

    def _vectors(self) -> bytes:
        area = bytearray(self._xstate)
        area[_LEGACY_XMM] = self._random.randbytes(256)
        for register in range(8):
            off = _ST.start + register * 16
            area[off : off + 10] = self._random.randbytes(7) + b"\x80\xff\x3f"
        area[_ST_VALID_OFF] = _ST_VALID
        present = 0x3
        for part in self._components:
            content = TILE_CONFIG if part.number == _XTILECFG else self._random.randbytes(part.size)
            area[part.offset : part.offset + part.size] = content
            present |= 1 << part.number
        area[_BITMAP] = struct.pack("<Q", present)
        return bytes(area)

    def _image(self, control: bool) -> bytes:
        if control:
            return struct.pack("<Q", LANDING_IP) * (IMAGE_SIZE // 8)
        return self._random.randbytes(IMAGE_SIZE)


def state_load(sandbox: Sandbox, state: State) -> None:
    """Put memory and vector registers into the sandbox; general registers go in with the run."""
    sandbox.write(DATA_VADDR, state.data)
    sandbox.write(DATA_ALIAS_VADDR, state.data)
    sandbox.write(STACK_VADDR, state.stack)
    sandbox.set_xstate(state.xstate)


def _xsave_components(sandbox: Sandbox, registers: bytes) -> list[Component]:
    """AVX, AVX-512 and AMX parts of the area, where this processor's XSAVE puts them (SDM vol. 1, 13.2)."""
    sandbox.write(SITE_IP, b"\x0f\xa2\xcc")  # cpuid
    found = []
    for number in (2, 5, 6, 7, _XTILECFG, 18):
        asked = register_set(register_set(registers, "rax", _XSAVE_LEAF), "rcx", number)
        stop = sandbox.run(asked)
        size, offset = register_get(stop.registers, "rax"), register_get(stop.registers, "rbx")
        if size and offset + size <= len(sandbox.xstate()):
            found.append(Component(number, offset, size))
    return found
