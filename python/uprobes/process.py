"""What a process is, as /proc tells: its mappings, its modules, where it begins. Nothing here touches the process."""

from __future__ import annotations

import signal
import struct

from uprobes.errors import TargetGone
from uprobes.mapped_file import read_image as read_image_in
from uprobes.mapping import Mapping, find_hole, mapping_at, parse_mappings, topmost_end
from uprobes.module import Module, find_modules
from uprobes.procfs import ProcDirectory

__all__ = [
    "Mapping",
    "Module",
    "entry_vaddr",
    "find_hole",
    "handles_faults",
    "has_shadow_stack",
    "mapping_at",
    "read_image",
    "read_mappings",
    "read_modules",
    "stack_vaddr",
    "start_time",
    "topmost_end",
]

_AUXILIARY = struct.Struct("<QQ")
_AT_ENTRY = 9
_FAULTS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE)


def read_mappings(pid: int) -> list[Mapping]:
    """The mappings of a process, by address. TargetGone, NotPermitted."""
    with ProcDirectory(pid) as process:
        return _read_mappings(process)


def _read_mappings(process: ProcDirectory) -> list[Mapping]:
    text = process.read("maps")
    if not text:
        raise TargetGone(process.pid, "it has no memory: it ended, or is a thread of the kernel")
    return parse_mappings(text)


def read_modules(pid: int) -> list[Module]:
    """The programs and libraries that a process has loaded, by address. TargetGone, NotPermitted."""
    with ProcDirectory(pid) as process:
        return find_modules(process, _read_mappings(process))


def read_image(pid: int, mapping: Mapping) -> memoryview:
    """The bytes of a mapping as its file has them; those in memory where no file can be opened.

    TargetGone, NotPermitted.
    """
    with ProcDirectory(pid) as process:
        return read_image_in(process, mapping)


def entry_vaddr(pid: int) -> int:
    """Where the program begins, after the loader: the address in the process. TargetGone, NotPermitted."""
    with ProcDirectory(pid) as process:
        auxiliary = process.read("auxv")
    whole = len(auxiliary) - len(auxiliary) % _AUXILIARY.size
    for kind, value in _AUXILIARY.iter_unpack(auxiliary[:whole]):
        if kind == _AT_ENTRY:
            return int(value)
    raise TargetGone(pid, "it has no entry point: it ended, or is a thread of the kernel")


def handles_faults(pid: int) -> bool:
    """Whether a process has a handler for SIGSEGV, SIGBUS or SIGFPE, which may look at where the fault was."""
    with ProcDirectory(pid) as process:
        status = process.read("status")
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith(b"SigCgt:")), b"0")
    return any(int(caught, 16) >> number - 1 & 1 for number in _FAULTS)


def stack_vaddr(pid: int) -> int:
    """Where the stack of its first thread began: another address after each exec. TargetGone."""
    with ProcDirectory(pid) as process:
        return process.stack_vaddr


def has_shadow_stack(pid: int) -> bool:
    """Whether the processor keeps and checks its return addresses. TargetGone, NotPermitted."""
    with ProcDirectory(pid) as process:
        return "shstk" in process.status().get("x86_Thread_features", "").split()


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot: with the pid it names a process for good. TargetGone."""
    with ProcDirectory(pid) as process:
        return process.start_time
