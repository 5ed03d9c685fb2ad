"""What a callback is given: the stopped thread at the probed instruction, to look at and to change."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from uprobe_core.trace.tracer import REGISTERS
from uprobes.errors import MemoryFault

if TYPE_CHECKING:
    from uprobe_core.trace.tracer import Tracer
    from uprobes.probe import Probe, Site

_INDEX = {name: index for index, name in enumerate(REGISTERS)}
_ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
_WORD = 8
_MASK = (1 << 64) - 1


class Registers:
    """The thread's general registers by name (``rax`` … ``r15``, ``rip``, ``eflags``, ``fs_base`` …), 64-bit unsigned.

    Assigning changes the thread. A changed ``rip`` sends it there instead of through the probed instruction.
    """

    __slots__ = ("_tracer", "changed")

    _tracer: Tracer
    changed: bool

    def __init__(self, tracer: Tracer) -> None:
        """Only good while the thread is stopped."""
        object.__setattr__(self, "_tracer", tracer)
        object.__setattr__(self, "changed", False)

    def __getattr__(self, name: str) -> int:
        """The register's value."""
        try:
            return self._tracer.hit_register(_INDEX[name])
        except KeyError:
            raise AttributeError(f"no register {name!r}; there are {', '.join(REGISTERS)}") from None

    def __setattr__(self, name: str, value: int) -> None:
        """Change the register; the value is taken modulo 2**64."""
        if name not in _INDEX:
            raise AttributeError(f"no register {name!r}; there are {', '.join(REGISTERS)}")
        self._tracer.set_hit_register(_INDEX[name], value & _MASK)
        object.__setattr__(self, "changed", True)

    def __dir__(self) -> list[str]:
        """The names of the registers."""
        return list(REGISTERS)

    def __repr__(self) -> str:
        """Every register in hexadecimal."""
        return "Registers(" + ", ".join(f"{name}={getattr(self, name):#x}" for name in REGISTERS) + ")"


class Memory:
    """The target's memory, by address in the target."""

    __slots__ = ("_tracer",)

    def __init__(self, tracer: Tracer) -> None:
        """Good as long as the target lives."""
        self._tracer = tracer

    def read(self, address: int, size: int) -> bytes:
        """Exactly `size` bytes. MemoryFault where they are not all mapped."""
        try:
            return self._tracer.read(address, size)
        except (OSError, OverflowError):
            raise MemoryFault(address, size, "read") from None

    def write(self, address: int, data: bytes) -> None:
        """Write `data`, page protection notwithstanding. MemoryFault where it is not all mapped."""
        try:
            self._tracer.write(address, bytes(data))
        except (OSError, OverflowError):
            raise MemoryFault(address, len(data), "write") from None

    def read_cstring(self, address: int, limit: int = 4096) -> bytes:
        """The bytes up to the first zero, which is left out; at most `limit` of them."""
        data = bytearray()
        while len(data) < limit:
            # Never past the page where the string may end: the next one need not be mapped.
            size = min(256 - (address + len(data)) % 256, limit - len(data))
            part = self.read(address + len(data), size)
            end = part.find(0)
            if end >= 0:
                return bytes(data + part[:end])
            data += part
        return bytes(data)

    def read_word(self, address: int) -> int:
        """The 64-bit unsigned integer at `address`."""
        return int.from_bytes(self.read(address, _WORD), "little")


class Arguments:
    """The integer and pointer arguments of the function that is being entered, by the System V ABI: ``args[0]`` …

    Good at a function's entry, before it has changed a register. Assigning changes the argument.
    """

    __slots__ = ("_memory", "_registers")

    def __init__(self, registers: Registers, memory: Memory) -> None:
        """The first six are in registers, the others on the stack above the return address."""
        self._registers = registers
        self._memory = memory

    def _stack_address(self, index: int) -> int:
        if index < 0:
            raise IndexError(f"argument {index}: arguments count from 0")
        return self._registers.rsp + _WORD * (index - len(_ARGUMENTS) + 1)

    def __getitem__(self, index: int) -> int:
        """Argument `index` as a 64-bit unsigned integer."""
        if 0 <= index < len(_ARGUMENTS):
            return int(getattr(self._registers, _ARGUMENTS[index]))
        return self._memory.read_word(self._stack_address(index))

    def __setitem__(self, index: int, value: int) -> None:
        """Change argument `index`."""
        if 0 <= index < len(_ARGUMENTS):
            setattr(self._registers, _ARGUMENTS[index], value)
        else:
            self._memory.write(self._stack_address(index), (value & _MASK).to_bytes(_WORD, "little"))


class Hit:
    """One hit, while its thread is stopped in front of the probed instruction.

    ``site`` and ``probe``: whose hit; ``pid`` and ``tid``: the process and the thread; ``time_ns``: CLOCK_MONOTONIC
    when the callback began; ``regs``, ``args``, ``memory``: to read and to change.
    """

    __slots__ = ("args", "memory", "pid", "probe", "regs", "site", "tid", "time_ns")

    def __init__(self, tracer: Tracer, probe: Probe, site: Site, tid: int, registers: Registers) -> None:
        """Made by the owner thread for each callback."""
        self.probe = probe
        self.site = site
        self.pid = tracer.pid
        self.tid = tid
        self.time_ns = time.monotonic_ns()
        self.regs = registers
        self.memory = Memory(tracer)
        self.args = Arguments(registers, self.memory)

    @property
    def return_address(self) -> int:
        """At a function's entry: the address that it will return to."""
        return self.memory.read_word(self.regs.rsp)

    def force_return(self, value: int) -> None:
        """At a function's entry: return `value` to the caller at once; the function's body does not run."""
        self.regs.rip = self.return_address
        self.regs.rsp = self.regs.rsp + _WORD
        self.regs.rax = value

    def __repr__(self) -> str:
        """Place and thread."""
        return f"<Hit {self.site.name} tid {self.tid}>"
