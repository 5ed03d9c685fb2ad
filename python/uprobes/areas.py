"""Slot areas: ordinary mappings in the target, made by the target itself when the first slot is needed.

All methods run in the owner thread. An area is readable and executable, never writable by the target; we write
through /proc/PID/mem. Its first slot holds a `syscall` of our own, so that later system calls need nothing of the
target's text.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Final

from ptrace.syscall.linux.x86_64 import SYSCALL_NAMES

from uprobe_core.abi import SLOT_SIZE
from uprobes.errors import NoRoom, RemoteCallFailed
from uprobes.process import find_hole, mapping_at, read_mappings, topmost_end

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uprobe_core.trace.tracer import Tracer

PAGE: Final = mmap.PAGESIZE
FIRST_SIZE: Final = 16 * PAGE
REACH: Final = 0x7FFF0000
"""How far a near slot may be from what it must reach: ±2 GiB less room for both ends."""

# Numbers from 512 on are those of x32.
_NUMBERS = {name: number for number, name in SYSCALL_NAMES.items() if number < 512} | {"mseal": 462}
_MAP_FIXED_NOREPLACE = 0x100000
_GADGET = b"\x0f\x05\xc3"  # syscall; ret
_BREAKPOINT = b"\xcc"
_HEADER = (_GADGET + b"uprobes slots").ljust(SLOT_SIZE, _BREAKPOINT)
# signal(7): an interruption ends these with EINTR even when no signal comes. They can be put back, but another thread
# is better.
_FRAGILE = frozenset(
    _NUMBERS[name]
    for name in (
        "epoll_wait", "epoll_pwait", "rt_sigtimedwait", "semop", "semtimedop", "io_getevents", "recvfrom", "recvmsg",
        "accept", "accept4", "nanosleep", "clock_nanosleep", "vfork",
    )
)  # fmt: skip


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
        self._gadget: int | None = None
        self._own_gadget: int | None = None

    @property
    def gadget(self) -> int:
        """The address of a `syscall` instruction in the target: ours, or else one in a mapped file."""
        if self._own_gadget is not None:
            return self._own_gadget
        if self._gadget is None:
            self._gadget = self._find_gadget()
        return self._gadget

    @property
    def unmap_gadget(self) -> int:
        """One outside the areas, with which they can unmap themselves; 0: there are no areas."""
        if self._own_gadget is None:
            return 0
        return self._gadget or self._find_gadget()

    def forget(self) -> None:
        """After an exec nothing is left."""
        self._gadget = self._own_gadget = None
        self._reused = False
        self._tracer.forget_arenas()

    def inherit(self, parent: Areas) -> None:
        """A process that is a copy of the parent's has its areas, too. The tracer knows them already."""
        self._seal = parent._seal
        self._reused = parent._reused
        self._gadget, self._own_gadget = parent._gadget, parent._own_gadget

    def restore(self) -> None:
        """Map the areas again, at their old addresses, that the target has unmapped or made useless. NoRoom where
        something else is there by now.
        """
        mappings = read_mappings(self._pid)
        for vaddr, size, _ in self._tracer.arenas():
            mapping = mapping_at(mappings, vaddr)
            if mapping is not None and mapping.executable and mapping.end >= vaddr + size:
                continue
            self._own_gadget = None
            if mapping is not None:
                self.system_call("mprotect", vaddr, size, mmap.PROT_READ | mmap.PROT_EXEC)
            else:
                self._map(vaddr, size, _MAP_FIXED_NOREPLACE)
            self._tracer.write(vaddr, _HEADER)
            self._tracer.rewrite_arena(vaddr, size)
        self._own_gadget = next((vaddr for vaddr, _, _ in self._tracer.arenas()), None)

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
        size = self._size(slots)
        vaddr = self._map(hint, size, flags)
        self._tracer.write(vaddr, _HEADER)
        # Sealing comes last; where the kernel has no mseal (before Linux 6.10) the area stays an ordinary one.
        sealed = self._seal and self.system_call("mseal", vaddr, size, 0) == 0
        self._adopt(vaddr, size, sealed)

    def _map(self, hint: int, size: int, flags: int) -> int:
        vaddr = self.system_call(
            "mmap", hint, size, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | flags, -1, 0
        )
        if vaddr < 0:
            raise NoRoom(
                size,
                fact=f"process {self._pid} cannot map {size} bytes for slots: {os.strerror(-vaddr)}",
                hint="its limits are in /proc/PID/limits (address space) and vm.max_map_count",
            )
        return vaddr

    def _adopt(self, vaddr: int, size: int, sealed: bool) -> None:
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
            if code == _HEADER.ljust(size, _BREAKPOINT):
                self._adopt(mapping.start, size, sealed=True)
                found = True
        return found

    def system_call(self, name: str, *arguments: int) -> int:
        """Let some thread of the target make a system call; negative results are -errno."""
        failure: OSError | None = None
        for tid in self._callers():
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
