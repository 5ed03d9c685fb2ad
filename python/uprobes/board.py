"""Boards: memory that hit code inside the target, or the tracer at a stop, writes counts and records to."""

from __future__ import annotations

import errno
import mmap
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from uprobe_core.linux.remap import remap
from uprobes.procfs import ProcDirectory

if TYPE_CHECKING:
    from collections.abc import Callable

    from uprobe_core.x86.hitplan import HitPlan

COUNTERS_SHIFT: Final = 21
"""log2 of a stride in bytes, of the board that has the sites' counters: 262,144 of them."""

_WORD = 8
_MAP_NORESERVE = 0x4000  # the module has no name for it
_MAP_FIXED = 0x10
_MFD_CLOEXEC = 1
_POSSIBLE = Path("/sys/devices/system/cpu/possible")


class BoardError(OSError):
    """A target cannot have a board; `errno` says why."""


class Board:
    """A stride of ``1 << shift`` bytes for every processor that there can be, and a last one for the tracer.

    Pages that nobody writes to take no memory. Made here, for the tracer alone; `share()` has a target write to it too.
    """

    def __init__(self, shift: int) -> None:
        """Nobody writes to it yet."""
        self.shift = max(shift, mmap.PAGESIZE.bit_length() - 1)
        self.strides = possible_processors() + 1
        size = self.strides << self.shift
        flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        self.memory = mmap.mmap(-1, size, flags=flags)
        self.vaddr: int | None = None
        """Where a target has it."""
        self.literal = 0
        """By which the target's code finds it."""
        self._descriptor: int | None = None
        self._reserved = 0

    @property
    def size(self) -> int:
        """In bytes."""
        return self.strides << self.shift

    def share(self, pid: int, name_vaddr: int, call: Callable[..., int]) -> None:
        """Let process `pid` have it in its memory too, at `vaddr`; before anybody has written more than words of the
        first page. `call` makes the process's system calls; at `name_vaddr` it has a name for the file.

        It is a file of the process's own, that it makes, so that no rights but ours over the process are needed.
        BoardError: it cannot be; nothing is left of it then.
        """
        try:
            number, descriptor = self.make_file(pid, name_vaddr, call)
            try:
                flags = mmap.MAP_SHARED | _MAP_NORESERVE
                vaddr = _checked(call("mmap", 0, self.size, mmap.PROT_READ | mmap.PROT_WRITE, flags, number, 0))
                os.pwrite(descriptor, self.memory[: mmap.PAGESIZE], 0)
                self._show(descriptor, vaddr)
            except BaseException:
                os.close(descriptor)
                raise
            finally:
                call("close", number)
        except OSError as error:
            raise BoardError(error.errno, os.strerror(error.errno or 0)) from error

    def make_file(self, pid: int, name_vaddr: int, call: Callable[..., int]) -> tuple[int, int]:
        """Have process `pid` make a file for it: the number of its descriptor there, which the caller has closed, and
        a descriptor of ours. OSError."""
        number = _checked(call("memfd_create", name_vaddr, _MFD_CLOEXEC))
        try:
            with ProcDirectory(pid) as process:
                descriptor = process.open(f"fd/{number}", os.O_RDWR)
            # By us: beyond its own limit of file sizes the process would get a signal.
            os.ftruncate(descriptor, self.size)
        except BaseException:
            call("close", number)
            raise
        return number, descriptor

    def put(self, number: int, descriptor: int, vaddr: int, call: Callable[..., int]) -> None:
        """Let the target have such a file at `vaddr`, in the place of what is there. BoardError."""
        flags = mmap.MAP_SHARED | _MAP_FIXED | _MAP_NORESERVE
        _checked(call("mmap", vaddr, self.size, mmap.PROT_READ | mmap.PROT_WRITE, flags, number, 0))
        self._show(descriptor, vaddr)

    def take(self, pid: int, vaddr: int) -> bool:
        """Share the board that process `pid` has at `vaddr` already; whether we may (CAP_CHECKPOINT_RESTORE)."""
        name = f"map_files/{vaddr:x}-{vaddr + self.size:x}"
        with ProcDirectory(pid) as process:
            try:
                # Not any file that a process has put there.
                if not process.link(name).startswith("/memfd:uprobes"):
                    raise BoardError(errno.ENXIO, os.strerror(errno.ENXIO))
                descriptor = process.open(name, os.O_RDWR)
            except PermissionError:
                return False
        self._show(descriptor, vaddr)
        return True

    def _show(self, descriptor: int, vaddr: int) -> None:
        remap(self.memory, descriptor)
        self.vaddr, self._descriptor = vaddr, descriptor

    def reserve(self, size: int) -> None:
        """Have memory for the first `size` bytes of every stride of a processor that runs: a target must not find that
        there is none. BoardError."""
        end = min(-(-size // mmap.PAGESIZE) * mmap.PAGESIZE, 1 << self.shift)
        if self._descriptor is None or end <= self._reserved:
            return
        try:
            for processor in range(min(os.cpu_count() or 1, self.strides)):
                start = (processor << self.shift) + self._reserved
                os.posix_fallocate(self._descriptor, start, end - self._reserved)
        except OSError as error:
            raise BoardError(error.errno, os.strerror(error.errno or 0)) from error
        self._reserved = end

    def close(self) -> None:
        """The file goes when nobody has it in memory any more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def sum(self, offset: int) -> int:
        """A counter, over all strides."""
        starts = range(offset, self.strides << self.shift, 1 << self.shift)
        return sum(int.from_bytes(self.memory[at : at + _WORD], "little") for at in starts)

    def set_word(self, offset: int, value: int) -> None:
        """A word of the first stride."""
        self.memory[offset : offset + _WORD] = value.to_bytes(_WORD, "little")


class Tap(NamedTuple):
    """What is done at the hits of a probe's sites beside counting them, and where.

    The site's number in records is not in the plan: whoever serves a site knows it.
    """

    plan: HitPlan
    board: Board
    number: int
    """The tracer's, of the plan."""


@cache
def possible_processors() -> int:
    """One more than the highest number that a processor can have on this machine."""
    return 1 + max(int(part.rpartition("-")[2]) for part in _POSSIBLE.read_text().strip().split(","))


def _checked(result: int) -> int:
    if result < 0:
        raise BoardError(-result, os.strerror(-result))
    return result
