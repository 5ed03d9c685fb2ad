"""All that decides whether a process can be traced, read from /proc without touching the process."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from uprobes.cgroups import Groups, read_groups
from uprobes.errors import UprobeError
from uprobes.mapping import Mapping, parse_mappings
from uprobes.procfs import ProcDirectory

if TYPE_CHECKING:
    from collections.abc import Iterable

SIGTRAP_BIT: Final = 1 << 4
CAP_SYS_PTRACE: Final = 1 << 19
YAMA: Final = "/proc/sys/kernel/yama/ptrace_scope"
THREADS_READ: Final = 2000
"""Threads whose signal masks are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Whom the kernel takes a process for. User and group numbers are real, effective, saved, file system."""

    pid: int
    uids: tuple[int, ...]
    gids: tuple[int, ...]
    permitted: int
    """Capabilities, one bit each."""
    effective: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A process and what is around it. What could not be read is None."""

    subject: Credentials
    ours: Credentials
    name: str
    leader: int
    """The pid of the process, where the number is a thread's."""
    parent: int
    state: str
    """As in ps: R, S, D, T, t, Z, X."""
    threads: int
    kernel_thread: bool
    bits: int | None
    tracer: int
    tracer_name: str
    dumpable: bool | None
    yama: int | None
    namespaces: tuple[str, ...] = ()
    """Those that differ from ours: user, pid, mnt."""
    first_in_namespace: bool = False
    """Whether it is process 1 of its pid namespace."""
    seccomp: int = 0
    """0 none, 1 strict, 2 filtered."""
    no_new_privileges: bool = False
    shadow_stack: bool = False
    trap_blocked: int = 0
    """Threads that block SIGTRAP, of those looked at."""
    trap_ignored: bool = False
    realtime: bool = False
    groups: Groups = field(default_factory=lambda: Groups({}))
    address_room: int | None = None
    """Bytes up to RLIMIT_AS; None: no limit."""
    mapping_room: int | None = None
    """Mappings up to vm.max_map_count."""
    kernel_probes: bool = False
    """Whether the kernel's own uprobes are in its text."""


def read_situation(pid: int) -> Situation:
    """The situation of process `pid`. TargetGone."""
    with ProcDirectory(pid) as process:
        status = process.status()
        tracer = int(status["TracerPid"])
        mappings = _read_mappings(process)
        memory = status.get("VmSize", "0 kB").split()
        limit = _address_limit(process)
        return Situation(
            subject=_credentials(pid, status),
            ours=read_credentials(os.getpid()),
            name=status["Name"],
            leader=int(status["Tgid"]),
            parent=int(status["PPid"]),
            state=status["State"][:1],
            threads=int(status.get("Threads", "1")),
            kernel_thread=_is_kernel_thread(status),
            bits=_read_bits(process),
            tracer=tracer,
            tracer_name=_name_of(tracer) if tracer else "",
            dumpable=_is_dumpable(process, status),
            yama=read_yama(),
            namespaces=tuple(name for name in ("user", "pid", "mnt") if _is_foreign(process, name)),
            first_in_namespace=status.get("NSpid", "0").split()[-1] == "1",
            seccomp=int(status.get("Seccomp", "0")),
            no_new_privileges=status.get("NoNewPrivs") == "1",
            shadow_stack="shstk" in status.get("x86_Thread_features", "").split(),
            trap_blocked=sum(mask & SIGTRAP_BIT != 0 for _, mask in _blocked_masks(process)),
            trap_ignored=bool(int(status.get("SigIgn", "0"), 16) & SIGTRAP_BIT),
            realtime=_is_realtime(pid),
            groups=read_groups(process.read("cgroup").decode("utf-8", "surrogateescape")),
            address_room=None if limit is None else max(0, limit - int(memory[0]) * 1024),
            mapping_room=_mapping_limit() - len(mappings) if mappings else None,
            kernel_probes=any(mapping.name.startswith("[uprobes") for mapping in mappings),
        )


def read_credentials(pid: int) -> Credentials:
    """Whom the kernel takes process `pid` for. TargetGone."""
    with ProcDirectory(pid) as process:
        return _credentials(pid, process.status())


def read_yama() -> int | None:
    """Yama's ptrace_scope; None where the kernel has no Yama."""
    with suppress(OSError, ValueError), open(YAMA) as file:
        return int(file.read())
    return None


def _credentials(pid: int, status: dict[str, str]) -> Credentials:
    return Credentials(
        pid=pid,
        uids=tuple(map(int, status["Uid"].split())),
        gids=tuple(map(int, status["Gid"].split())),
        permitted=int(status["CapPrm"], 16),
        effective=int(status["CapEff"], 16),
    )


def _is_kernel_thread(status: dict[str, str]) -> bool:
    if "Kthread" in status:  # Linux 6.7 and later
        return status["Kthread"] == "1"
    return "VmSize" not in status and not status["State"].startswith(("Z", "X"))


def _read_bits(process: ProcDirectory) -> int | None:
    """64 or 32, by the class of its program."""
    with suppress(OSError, IndexError), os.fdopen(process.open("exe"), "rb", buffering=0) as file:
        ident = file.read(5)
        return {1: 32, 2: 64}.get(ident[4]) if ident.startswith(b"\x7fELF") else None
    return None


def _is_dumpable(process: ProcDirectory, status: dict[str, str]) -> bool | None:
    """The kernel gives the files of a process that is not dumpable to root. None: it is root's anyway."""
    owner = int(status["Uid"].split()[1])
    if owner == 0:
        return None
    try:
        return process.stat("mem").st_uid == owner
    except OSError:
        return None


def _is_foreign(process: ProcDirectory, namespace: str) -> bool:
    try:
        theirs = process.stat(f"ns/{namespace}")
        return not os.path.samestat(theirs, os.stat(f"/proc/self/ns/{namespace}"))
    except OSError:
        return False


def trap_state(pid: int) -> set[int]:
    """The threads of process `pid`, of those looked at, that block SIGTRAP. TargetGone."""
    with ProcDirectory(pid) as process:
        return {tid for tid, mask in _blocked_masks(process) if mask & SIGTRAP_BIT}


def _blocked_masks(process: ProcDirectory) -> Iterable[tuple[int, int]]:
    """Threads, and the signals that each blocks."""
    for tid in process.tasks()[:THREADS_READ]:
        with suppress(UprobeError):
            for line in process.read(f"task/{tid}/status").splitlines():
                if line.startswith(b"SigBlk:"):
                    yield tid, int(line.split()[1], 16)


def _is_realtime(pid: int) -> bool:
    try:
        return os.sched_getscheduler(pid) in (os.SCHED_FIFO, os.SCHED_RR)
    except OSError:
        return False


def _read_mappings(process: ProcDirectory) -> list[Mapping]:
    try:
        return parse_mappings(process.read("maps"))
    except UprobeError:
        return []


def _address_limit(process: ProcDirectory) -> int | None:
    with suppress(UprobeError, ValueError):
        for line in process.read("limits").splitlines():
            if line.startswith(b"Max address space"):
                return int(line.split()[3])  # `unlimited` is none
    return None


def _mapping_limit() -> int:
    with open("/proc/sys/vm/max_map_count") as file:
        return int(file.read())


def _name_of(pid: int) -> str:
    with suppress(OSError), open(f"/proc/{pid}/comm") as file:
        return file.read().strip()
    return ""
