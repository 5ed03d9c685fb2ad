"""Boards: memory that a target shares with us, in which it counts by itself.

Made by the target, in calls that we have it make, and opened by us through /proc; so it belongs to the target as its
own memory does. It lives on in our mapping when the target executes another program or ends.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Final

from uprobes.mapping import PAGE
from uprobes.procfs import ProcDirectory

if TYPE_CHECKING:
    from collections.abc import Callable

SHIFT: Final = 21
"""log2 of a processor's stride in bytes: 262,144 counters."""
CELL: Final = 8
_POSSIBLE: Final = "/sys/devices/system/cpu/possible"
_MFD_CLOEXEC: Final = 1
_MAP_NORESERVE: Final = 0x4000


class BoardError(OSError):
    """The target cannot make a board; `errno` says why."""


class Board:
    """One board: a stride of bytes for each processor that there may ever be, in order of their numbers."""

    def __init__(self, descriptor: int, vaddr: int, processors: int, shift: int = SHIFT) -> None:
        """`vaddr` is its address in the target. The descriptor is ours from now on."""
        self.vaddr = vaddr
        self.processors = processors
        self.shift = shift
        self.size = processors << shift
        self._descriptor = descriptor
        self._reserved = 0
        self.memory = memoryview(mmap.mmap(descriptor, self.size))

    def reserve(self, cells: int) -> None:
        """Have memory for that many counters in each stride: the target must not find that there is none. BoardError."""
        size = -(-cells * CELL // PAGE) * PAGE
        if size <= self._reserved:
            return
        try:
            for processor in range(self.processors):
                start = (processor << self.shift) + self._reserved
                os.posix_fallocate(self._descriptor, start, size - self._reserved)
        except OSError as error:
            raise BoardError(error.errno, os.strerror(error.errno or 0)) from error
        self._reserved = size

    def close(self) -> None:
        """The descriptor goes; the memory stays as long as somebody reads it."""
        os.close(self._descriptor)


def make_board(pid: int, name_vaddr: int, call: Callable[..., int]) -> Board:
    """Have process `pid` make one. `call` makes its system calls; at `name_vaddr` it has a name for the file.

    BoardError: it cannot, and nothing is left of it.
    """
    processors = possible_processors()
    size = processors << SHIFT
    number = _checked(call("memfd_create", name_vaddr, _MFD_CLOEXEC))
    try:
        with ProcDirectory(pid) as process:
            descriptor = process.open(f"fd/{number}", os.O_RDWR)
        try:
            # By us: beyond its own limit of file sizes the target would get a signal.
            os.ftruncate(descriptor, size)
            flags = mmap.MAP_SHARED | _MAP_NORESERVE
            vaddr = _checked(call("mmap", 0, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, number, 0))
            return Board(descriptor, vaddr, processors)
        except BaseException:
            os.close(descriptor)
            raise
    except OSError as error:
        raise BoardError(error.errno, os.strerror(error.errno or 0)) from error
    finally:
        call("close", number)


def possible_processors() -> int:
    """One more than the highest number that a processor of this machine can ever have."""
    with open(_POSSIBLE) as file:
        return int(file.read().replace(",", "-").split("-")[-1]) + 1


def _checked(result: int) -> int:
    if result < 0:
        raise BoardError(-result, os.strerror(-result))
    return result
