"""A child process in which any instruction may run: fixed pages, every register set and read through ptrace."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import struct
from dataclasses import dataclass
from typing import Self

from uprobes.errors import SandboxError
from uprobes.selftest.registers import REGISTERS_SIZE, register_set, selectors_normalise

PAGE = mmap.PAGESIZE
SITE_IP = 0x2000_1000_0800
"""The probed instruction; its pages hold nothing else but int3."""
DATA_VADDR = 0x2000_1001_0000
"""What RIP-relative and based operands name."""
DATA_ALIAS_VADDR = DATA_VADDR & 0xFFFF_FFFF
"""Where the same operands lead with 32-bit addresses."""
STACK_VADDR = 0x2000_3000_0000
SLOTS = {
    "near": 0x2000_1100_0800,
    "below": 0x2000_0F00_0800,
    "far above": 0x3000_0000_0800,
    "far below": 0x1000_0000_0800,
}
"""Addresses for slots; the far ones are out of reach of a disp32."""

_PAGES = 2
_INT3 = b"\xcc"
_TRACEME, _CONT, _KILL, _SINGLESTEP, _GETREGS, _SETREGS = 0, 7, 8, 9, 12, 13
_SETOPTIONS, _GETSIGINFO, _GETREGSET, _SETREGSET = 0x4200, 0x4202, 0x4204, 0x4205
_O_EXITKILL = 0x10_0000
_NT_X86_XSTATE = 0x202
_XSTATE_ROOM = 16384
_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _TILE_DATA = 158, 0x1023, 18
TILE_CONFIG = bytes([1, *bytes(15), *(bytes([64, 0]) * 8), *bytes(16), *(bytes([16]) * 8), *bytes(8)])
"""Palette 1, and for each of the eight tiles 64 bytes a row and 16 rows (SDM vol. 1, 18.2)."""
_USE_TILES = bytes.fromhex("c4 e2 78 49 03 c4 e2 7b 49 c0 c4 e2 78 49 c0")  # ldtilecfg [rbx]; tilezero; tilerelease
_MAP_FIXED_NOREPLACE = 0x10_0000
_PR_SET_PDEATHSIG = 1
_CPU_SECONDS = 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


@dataclass(frozen=True, slots=True)
class Stop:
    """Why the thread stopped and with which general registers."""

    signal: int
    code: int
    address: int
    registers: bytes


class Sandbox:
    """One child, stopped between runs. Only the thread that made it may use it."""

    def __init__(self) -> None:
        """Start the child and stop it."""
        self.pid = os.fork()
        if not self.pid:
            _become_sandbox()
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            raise SandboxError("the sandbox's addresses are taken in this process", hint="run it from a plain Python")
        try:
            _ptrace(_SETOPTIONS, self.pid, None, _O_EXITKILL)
            self._memory = os.open(f"/proc/{self.pid}/mem", os.O_RDWR)
        except BaseException:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            raise
        self._registers = ctypes.create_string_buffer(REGISTERS_SIZE)
        self._siginfo = ctypes.create_string_buffer(128)
        self._xstate = ctypes.create_string_buffer(_XSTATE_ROOM)
        self._iovec = _Iovec(ctypes.addressof(self._xstate), _XSTATE_ROOM)
        for vaddr in (SITE_IP, *SLOTS.values()):
            self.write(vaddr // PAGE * PAGE, _INT3 * PAGE * _PAGES)
        self._use_tiles()

    def _use_tiles(self) -> None:
        """Where there are tile registers, the kernel makes room for them at their first use."""
        self.write(DATA_VADDR, TILE_CONFIG)
        self.write(SITE_IP, _USE_TILES)
        self.run(register_set(register_set(self.registers(), "rip", SITE_IP), "rbx", DATA_VADDR))
        self.write(SITE_IP, _INT3 * len(_USE_TILES))

    def __enter__(self) -> Self:
        """The sandbox itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the child."""
        self.close()

    def close(self) -> None:
        """End the child."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self._memory)
            self.pid = 0

    def write(self, vaddr: int, content: bytes) -> None:
        """Write memory. OSError where there is none."""
        _check_user(vaddr)
        os.pwrite(self._memory, content, vaddr)

    def read(self, vaddr: int, size: int) -> bytes:
        """Read memory. OSError where there is none."""
        _check_user(vaddr)
        return os.pread(self._memory, size, vaddr)

    def registers(self) -> bytes:
        """The general registers, as struct user_regs_struct."""
        _ptrace(_GETREGS, self.pid, None, self._registers)
        return self._registers.raw

    def xstate(self) -> bytes:
        """The vector, mask and x87 registers in the standard layout of XSAVE."""
        self._iovec.length = _XSTATE_ROOM
        _ptrace(_GETREGSET, self.pid, _NT_X86_XSTATE, ctypes.byref(self._iovec))
        return self._xstate.raw[: self._iovec.length]

    def set_xstate(self, xstate: bytes) -> None:
        """Set them."""
        ctypes.memmove(self._xstate, xstate, len(xstate))
        self._iovec.length = len(xstate)
        _ptrace(_SETREGSET, self.pid, _NT_X86_XSTATE, ctypes.byref(self._iovec))

    def run(self, registers: bytes, *, step: bool = False) -> Stop:
        """Run from `registers` until a signal, which is not delivered. step: one instruction."""
        ctypes.memmove(self._registers, selectors_normalise(registers), REGISTERS_SIZE)
        _ptrace(_SETREGS, self.pid, None, self._registers)
        _ptrace(_SINGLESTEP if step else _CONT, self.pid, None, None)
        _, status = os.waitpid(self.pid, 0)
        if not os.WIFSTOPPED(status):
            self.pid = 0
            os.close(self._memory)
            raise SandboxError(f"the sandbox ended with wait status 0x{status:x}")
        if os.WSTOPSIG(status) == signal.SIGVTALRM:
            raise SandboxError(f"the sandbox ran for {_CPU_SECONDS} s without a trap")
        _ptrace(_GETSIGINFO, self.pid, None, self._siginfo)
        number, _, code, address = struct.unpack_from("iiixxxxQ", self._siginfo)
        return Stop(number, code, address, self.registers())


def _check_user(vaddr: int) -> None:
    """The upper half of the address space is no file offset."""
    if vaddr >> 63:
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))


def _ptrace(request: int, pid: int, address: object, argument: object) -> None:
    if _libc.ptrace(request, pid, address, argument) < 0:
        error = ctypes.get_errno()
        raise SandboxError(f"ptrace request 0x{request:x} on {pid}: {os.strerror(error)}")


def _become_sandbox() -> None:
    """In the child: map the pages and wait for the tracer. Never returns."""
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _libc.syscall(_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _TILE_DATA)  # refused where there are none
        regions = [SITE_IP, DATA_VADDR, DATA_ALIAS_VADDR, STACK_VADDR, *SLOTS.values()]
        protection = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED_NOREPLACE
        for vaddr in regions:
            start = vaddr // PAGE * PAGE
            if _libc.mmap(start, PAGE * _PAGES, protection, flags, -1, 0) != start:
                os._exit(1)
        signal.setitimer(signal.ITIMER_VIRTUAL, _CPU_SECONDS, _CPU_SECONDS)
        _libc.ptrace(_TRACEME, 0, None, None)
        os.kill(os.getpid(), signal.SIGSTOP)
    finally:
        os._exit(1)
