"""Slot areas: ordinary mappings in the target, made by the target itself when the first slot is needed.

All methods run in the owner thread. An area is readable and executable, never writable by the target; we write
through /proc/PID/mem. Its first slot holds a `syscall` of our own, so that later system calls need nothing of the
target's text.
"""

from __future__ import annotations

import errno
import mmap
import os
from typing import TYPE_CHECKING, Final

from ptrace.syscall.linux.x86_64 import SYSCALL_NAMES

from uprobe_core.abi import SLOT_SIZE
from uprobe_core.linux.journal import area_kind
from uprobe_core.trace import safety
from uprobes.errors import NoRoom, RemoteCallFailed
from uprobes.process import find_hole, mapping_at, read_mappings, topmost_end
from uprobes.seccomp import SeccompGate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uprobe_core.linux.journal import Journal as Records
    from uprobe_core.trace.tracer import Tracer

PAGE: Final = mmap.PAGESIZE
FIRST_SIZE: Final = 16 * PAGE
REACH: Final = 0x7FFF0000
"""How far a near slot may be from what it must reach: ±2 GiB less room for both ends."""

# What the library's table does not have yet.
_NEW: Final = {"mseal": 462, "epoll_pwait2": 441, "io_uring_enter": 426, "io_pgetevents": 333}
# Numbers from 512 on are those of x32.
_NUMBERS = {name: number for number, name in SYSCALL_NAMES.items() if number < 512} | _NEW
_MAP_FIXED_NOREPLACE = 0x100000
_GADGET = b"\x0f\x05\xc3"  # syscall; ret
_BREAKPOINT = b"\xcc"
HEADER = (_GADGET + b"uprobes slots").ljust(SLOT_SIZE, _BREAKPOINT)
# signal(7): an interruption ends these with EINTR even when no signal comes. They can be put back, but another thread
# is better.
_FRAGILE = frozenset(
    _NUMBERS[name]
    for name in (
        "epoll_wait", "epoll_pwait", "rt_sigtimedwait", "semop", "semtimedop", "io_getevents", "recvfrom", "recvmsg",
        "accept", "accept4", "nanosleep", "clock_nanosleep", "vfork", "epoll_pwait2", "io_uring_enter", "io_pgetevents",
        # of a socket with a time-out
        "read", "readv", "write", "writev", "sendto", "sendmsg", "sendmmsg", "recvmmsg", "connect",
    )
)  # fmt: skip


# Calls that take back what was made by others.
_UNDONE: Final = ("mmap", "munmap", "rt_sigaction", "rt_sigreturn")


def syscall_number(name: str) -> int:
    """The x86-64 number of a system call."""
    return int(_NUMBERS[name])


class Areas:
    """The slot areas of one target."""

    def __init__(self, tracer: Tracer, pid: int, *, seal: bool) -> None:
        """Nothing is mapped before the first slot is needed. seal: no area can be unmapped before the next exec."""
        self._tracer = tracer
        self._pid = pid
        self._seal = seal
        self._reused = False
        self._journal: Records | None = None
        self._gadget: int | None = None
        self._own_gadget: int | None = None
        self._seccomp = SeccompGate(tracer, pid)

    @property
    def gadget(self) -> int:
        """The address of a `syscall` instruction in the target: ours, or else one in a mapped file."""
        if self._own_gadget is not None:
            return self._own_gadget
        if self._gadget is None:
            self._gadget = self._find_gadget()
        return self._gadget

    @property
    def filtered(self) -> bool:
        """Whether seccomp may keep the target from what has to be undone later."""
        return self._seccomp.may_refuse(syscall_number(name) for name in _UNDONE)

    @property
    def unmap_gadget(self) -> int:
        """One outside the areas, with which they can unmap themselves; 0: there are no areas."""
        if self._own_gadget is None or self.filtered:
            return 0
        return self._gadget or self._find_gadget()

    def inherit(self, parent: Areas) -> None:
        """The target is a copy of another: its areas are there, too."""
        self._reused = parent._reused
        self._gadget, self._own_gadget = parent._gadget, parent._own_gadget

    def keep_journal(self, journal: Records) -> None:
        """Every area is written down in it."""
        self._journal = journal

    def journal_area(self, vaddr: int, size: int, kind: int, *, sealed: bool) -> None:
        """Write an area down. OSError: there is no space."""
        if self._journal is not None:
            self._journal.append_area(vaddr, size, kind, sealed)

    def journal_signal(self, action: bytes) -> None:
        """Write down the disposition of SIGTRAP that was there before ours."""
        if self._journal is not None:
            self._journal.append_signal(action)

    def use_gadget(self, vaddr: int | None) -> None:
        """System calls are made by the `syscall` at `vaddr` from now on; None: by one in an area, or in a file."""
        arenas = (arena for arena, _, _ in self._tracer.arenas())
        self._own_gadget = vaddr if vaddr is not None else next(arenas, None)

    def forget(self) -> None:
        """After an exec nothing is left."""
        self._gadget = self._own_gadget = None
        self._reused = False
        self._tracer.forget_arenas()

    def restore(self) -> None:
        """Map the areas again, at their old addresses, that the target has unmapped or made useless. NoRoom where
        something else is there by now.
        """
        mappings = read_mappings(self._pid)
        self._own_gadget = None
        for vaddr, size, _ in self._tracer.arenas():
            mapping = mapping_at(mappings, vaddr)
            if mapping is not None and mapping.executable and mapping.end >= vaddr + size:
                continue
            if mapping is not None:
                self.system_call("mprotect", vaddr, size, mmap.PROT_READ | mmap.PROT_EXEC)
            else:
                self.map_again(vaddr, size)
            self._tracer.write(vaddr, HEADER)
            self._tracer.rewrite_arena(vaddr, size)
        self.use_gadget(None)

    def make_anywhere(self, slots: int) -> None:
        """An area for `slots` more slots, next above the topmost mapping if there is room. NoRoom.

        The first time, sealed areas that an earlier attach has left empty are taken up instead.
        """
        if self._reuse():
            return
        self._make(slots, topmost_end(read_mappings(self._pid)) + PAGE, 0)

    def make_near(self, low: int, high: int, slots: int) -> None:
        """An area that lies in [low, high). NoRoom."""
        size = self._size(slots)
        hole = find_hole(read_mappings(self._pid), size, near=(low, high))
        if hole is None:
            raise NoRoom(size, near=(low, high))
        self._make(slots, hole, _MAP_FIXED_NOREPLACE)

    def _size(self, slots: int) -> int:
        return max(FIRST_SIZE, -(-(slots + 1) * SLOT_SIZE // PAGE) * PAGE)

    def _make(self, slots: int, hint: int, flags: int) -> None:
        self._make_sized(self._size(slots), hint, flags)

    def _make_sized(self, size: int, hint: int, flags: int) -> int:
        vaddr = self.map(hint, size, flags)
        self._tracer.write(vaddr, HEADER)
        self._adopt(vaddr, size, self.seal(vaddr, size))
        return vaddr

    def make_table(self, size: int) -> int:
        """An area without slots, but with `size` bytes for a table; the table's address. NoRoom."""
        vaddr = self._make_sized(size + PAGE, topmost_end(read_mappings(self._pid)) + PAGE, 0)
        safety.fill_arena(self._tracer, vaddr)
        return vaddr + PAGE

    def seal(self, vaddr: int, size: int) -> bool:
        """Seal an area if that is wanted, as the last step. Whether it is sealed: kernels before Linux 6.10 cannot."""
        return self._seal and self.system_call("mseal", vaddr, size, 0) == 0

    def map_again(self, vaddr: int, size: int) -> int:
        """Map `size` bytes at `vaddr`, and nowhere else. NoRoom."""
        return self.map(vaddr, size, _MAP_FIXED_NOREPLACE)

    def map(self, hint: int, size: int, flags: int, rights: int = mmap.PROT_READ | mmap.PROT_EXEC) -> int:
        """Let the target map `size` private bytes, at `hint` if that is free; where they are. NoRoom."""
        vaddr = self.system_call("mmap", hint, size, rights, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | flags, -1, 0)
        if vaddr < 0:
            raise NoRoom(
                size,
                fact=f"process {self._pid} cannot map {size} bytes for slots: {os.strerror(-vaddr)}",
                hint="its limits are in /proc/PID/limits (address space) and vm.max_map_count",
            )
        return vaddr

    def _adopt(self, vaddr: int, size: int, sealed: bool) -> None:
        self.journal_area(vaddr, size, area_kind.AREA_SLOTS, sealed=sealed)
        self._tracer.add_arena(vaddr, size, sealed)
        self._tracer.reserve_slot(vaddr)
        if self._own_gadget is None:
            self._own_gadget = vaddr

    def _reuse(self) -> bool:
        """Take up areas of an earlier attach, which left nothing but breakpoints in them; whether there were any."""
        if self._reused:
            return False
        self._reused = True
        found = False
        for mapping in read_mappings(self._pid):
            if not mapping.executable or mapping.writable or mapping.shared or mapping.name:
                continue
            size = mapping.end - mapping.start
            code = self._tracer.read_some(mapping.start, size)
            if code == HEADER.ljust(size, _BREAKPOINT):
                self._adopt(mapping.start, size, sealed=True)
                found = True
        return found

    def system_call(self, name: str, *arguments: int) -> int:
        """Let some thread of the target make a system call; negative results are -errno. One that seccomp would not let
        through is not made: -EPERM.
        """
        failure: OSError | None = None
        callers = [tid for tid in self._callers() if self._seccomp.passes(tid, syscall_number(name), arguments)]
        if not callers:
            return -errno.EPERM  # as the kernel would say, if it did not kill for it
        for tid in callers:
            try:
                return int(self._tracer.system_call(tid, self.gadget, syscall_number(name), arguments))
            except (TimeoutError, ProcessLookupError) as error:
                failure = error
        raise RemoteCallFailed(self._pid, name) from failure

    def _callers(self) -> Iterable[int]:
        """Threads that may be asked, the best first: running ones are disturbed least."""
        return sorted(self._tracer.tasks(), key=self._reluctance)[:64]

    def _reluctance(self, tid: int) -> int:
        try:
            with open(f"/proc/{self._pid}/task/{tid}/syscall") as file:
                state = file.read().split()
        except OSError:
            return 4
        if not state or state[0] == "running":
            return 0
        number = int(state[0])
        return 3 if number in _FRAGILE else 1 if number >= 0 else 2

    def _find_gadget(self) -> int:
        """A `syscall; ret`, or at least a `syscall`, in some file's text that bears no probe of ours."""
        best = 0
        for mapping in read_mappings(self._pid):
            if not mapping.executable or mapping.name == "[vsyscall]":
                continue
            code = self._tracer.read_some(mapping.start, mapping.end - mapping.start)
            for pattern in (_GADGET, _GADGET[:2]):
                place = code.find(pattern)
                if place >= 0:
                    if pattern == _GADGET:
                        return mapping.start + place
                    best = best or mapping.start + place
                    break
        if not best:
            raise RemoteCallFailed(self._pid, "system calls", hint="there is no syscall instruction in its text")
        return best
