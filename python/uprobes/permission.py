"""Whether a process can be traced, what of it would not work, and why: for attach errors and for the doctor."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Final

from uprobes.errors import AlreadyTraced, NotPermitted, TargetGone, UnsupportedTarget, UprobeError
from uprobes.situation import CAP_SYS_PTRACE, Situation, read_situation, read_yama

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LITTLE_MEMORY: Final = 4 << 20
"""Bytes below which a memory limit is worth a word: each probed page costs the process one page."""
FEW_MAPPINGS: Final = 16


class Verdict(IntEnum):
    """What a finding means for tracing, from harmless to hopeless."""

    FINE = 0
    NOTE = 1
    """Good to know."""
    LIMITED = 2
    """Some of it does not work, or not always."""
    BLOCKED = 3
    """The process cannot be traced as things are."""


class Check(StrEnum):
    """What was looked at."""

    LIFE = "life"
    KIND = "kind"
    BITS = "bits"
    TRACER = "tracer"
    USER = "user"
    DUMPABLE = "dumpable"
    CAPABILITIES = "capabilities"
    YAMA = "yama"
    NAMESPACES = "namespaces"
    SECCOMP = "seccomp"
    SHADOW_STACK = "shadow stack"
    SIGTRAP = "sigtrap"
    FREEZER = "freezer"
    SCHEDULING = "scheduling"
    MEMORY = "memory"
    ADDRESS_SPACE = "address space"
    MAPPINGS = "mappings"
    KERNEL_PROBES = "kernel probes"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about a process, and what it means for tracing it."""

    check: Check
    verdict: Verdict
    fact: str
    hint: str | None = None
    """A way out, where there is one."""

    def __str__(self) -> str:
        """Fact and way out."""
        return f"{self.check}: {self.fact}" + (f"; hint: {self.hint}" if self.hint else "")


def examine(pid: int) -> list[Finding]:
    """Everything that bears on tracing process `pid`, one finding a check, without touching the process. TargetGone."""
    return judge(read_situation(pid))


def judge(situation: Situation) -> list[Finding]:
    """The findings of a situation, in the order in which the kernel and we would stumble over them."""
    return [finding for check in _CHECKS for finding in check(situation)]


def require_traceable(pid: int) -> None:
    """Raise what attaching would end in, as far as it is certain: TargetGone, UnsupportedTarget, AlreadyTraced.

    Rights are left to the kernel to decide; ``explain_refusal`` says why it did.
    """
    situation = read_situation(pid)
    for finding in (*_life(situation), *_kind(situation), *_bits(situation), *_tracer(situation)):
        if finding.verdict is Verdict.BLOCKED:
            raise _as_error(situation, finding)


def explain_refusal(pid: int, error: OSError) -> UprobeError:
    """The exception for an `error` of the kernel's when we tried to trace process `pid`."""
    if error.errno == errno.ESRCH:
        return TargetGone(pid, "it ended while it was attached to")
    try:
        situation = read_situation(pid)
    except TargetGone as gone:
        return gone
    for finding in judge(situation):
        if finding.verdict is Verdict.BLOCKED:
            return _as_error(situation, finding)
    return NotPermitted(
        pid,
        f"the kernel refuses: {error.strerror or error}",
        hint="a security module (SELinux, AppArmor) or a container's seccomp filter may forbid ptrace",
    )


def tracer_apart() -> bool:
    """Whether a process of its own may trace for us. Yama's scope 1 lets only ancestors, unless root."""
    return read_yama() != 1 or os.geteuid() == 0


def _as_error(situation: Situation, finding: Finding) -> UprobeError:
    pid = situation.subject.pid
    match finding.check:
        case Check.LIFE:
            return TargetGone(pid, finding.fact, hint=finding.hint)
        case Check.KIND | Check.BITS:
            return UnsupportedTarget(pid, finding.fact, hint=finding.hint)
        case Check.TRACER:
            return AlreadyTraced(pid, situation.tracer, situation.tracer_name)
        case _:
            return NotPermitted(pid, finding.fact, hint=finding.hint)


# ---- whether it can be traced by anybody ----


def _life(situation: Situation) -> Iterator[Finding]:
    if situation.state in "ZX":
        if situation.threads > 1:
            left = situation.threads - 1
            fact = f"its first thread has ended; {left} {'is' if left == 1 else 'are'} left"
            yield Finding(Check.LIFE, Verdict.NOTE, fact)
        else:
            fact = f"it has ended and waits for its parent, process {situation.parent}, to ask how"
            yield Finding(Check.LIFE, Verdict.BLOCKED, fact)
    elif situation.state == "T":
        yield Finding(Check.LIFE, Verdict.NOTE, "it is stopped; it stays so, and hits come when it goes on")
    elif situation.state == "D":
        yield Finding(Check.LIFE, Verdict.LIMITED, "it waits in the kernel and cannot be stopped before that ends")
    else:
        yield Finding(Check.LIFE, Verdict.FINE, f"{situation.name} lives, with {_count(situation.threads, 'thread')}")


def _kind(situation: Situation) -> Iterator[Finding]:
    if situation.kernel_thread:
        yield Finding(Check.KIND, Verdict.BLOCKED, "it is a thread of the kernel, and has no user space")
    elif situation.leader == situation.ours.pid:
        hint = "run the tracing program as a process of its own: uprobes count -p PID"
        yield Finding(Check.KIND, Verdict.BLOCKED, "it is this very process, and no process can trace itself", hint)
    elif situation.leader != situation.subject.pid:
        fact = f"it is a thread of process {situation.leader}"
        yield Finding(Check.KIND, Verdict.BLOCKED, fact, f"give the process: -p {situation.leader}")


def _bits(situation: Situation) -> Iterator[Finding]:
    if situation.bits == 32:
        yield Finding(Check.BITS, Verdict.BLOCKED, "it runs a 32-bit program", "only 64-bit x86-64 code can be probed")


def _tracer(situation: Situation) -> Iterator[Finding]:
    if situation.tracer:
        who = f"process {situation.tracer}" + (f" ({situation.tracer_name})" if situation.tracer_name else "")
        hint = f"detach that one, or end it: kill {situation.tracer}"
        yield Finding(Check.TRACER, Verdict.BLOCKED, f"it is traced by {who}, and can have one tracer only", hint)
    else:
        yield Finding(Check.TRACER, Verdict.FINE, "nobody traces it")


# ---- whether we may: the order of the kernel's ptrace_may_access() ----


def _may_anyway(situation: Situation) -> bool:
    """Whether the capability overrides what ordinary users are held to."""
    return bool(situation.ours.effective & CAP_SYS_PTRACE) and "user" not in situation.namespaces


def _user(situation: Situation) -> Iterator[Finding]:
    ours, subject = situation.ours, situation.subject
    if set(subject.uids[:3]) == {ours.uids[0]} and set(subject.gids[:3]) == {ours.gids[0]}:
        yield Finding(Check.USER, Verdict.FINE, f"it runs as our own user, {ours.uids[0]}")
    elif _may_anyway(situation):
        yield Finding(Check.USER, Verdict.FINE, f"it runs as user {subject.uids[0]}; we have CAP_SYS_PTRACE")
    else:
        what = "user" if set(subject.uids[:3]) != {ours.uids[0]} else "group"
        theirs, mine = (subject.uids, ours.uids) if what == "user" else (subject.gids, ours.gids)
        numbers = "/".join(str(number) for number in dict.fromkeys(theirs[:3]))
        hint = f"run as that {what}, or as root: sudo uprobes …"
        yield Finding(Check.USER, Verdict.BLOCKED, f"it runs as {what} {numbers}, and we are {what} {mine[0]}", hint)


def _dumpable(situation: Situation) -> Iterator[Finding]:
    if situation.dumpable is False:
        verdict = Verdict.NOTE if _may_anyway(situation) else Verdict.BLOCKED
        fact = "it is not dumpable: it changed its user, was made by a setuid program, or asked for it with prctl()"
        yield Finding(Check.DUMPABLE, verdict, fact, None if verdict is Verdict.NOTE else "run as root: sudo uprobes …")


def _capabilities(situation: Situation) -> Iterator[Finding]:
    more = situation.subject.permitted & ~situation.ours.permitted
    if more and not _may_anyway(situation) and "user" not in situation.namespaces:
        fact = f"it has capabilities that we lack: {more:#x}"
        yield Finding(Check.CAPABILITIES, Verdict.BLOCKED, fact, "run as root: sudo uprobes …")


def _yama(situation: Situation) -> Iterator[Finding]:
    scope = situation.yama
    start = "start it with uprobes: uprobes count … -- COMMAND"
    if scope is None:
        return
    if scope == 3:
        yield Finding(Check.YAMA, Verdict.BLOCKED, "kernel.yama.ptrace_scope is 3: nobody may trace until a reboot")
    elif scope == 0 or _may_anyway(situation):
        yield Finding(Check.YAMA, Verdict.FINE, f"kernel.yama.ptrace_scope is {scope}")
    elif scope == 2:
        fact = "kernel.yama.ptrace_scope is 2: only root may trace"
        yield Finding(Check.YAMA, Verdict.BLOCKED, fact, "run as root: sudo uprobes …")
    else:
        fact = "kernel.yama.ptrace_scope is 1: we may trace only what we started, or what permits it by prctl()"
        hint = f"{start}, or run as root, or: sudo sysctl kernel.yama.ptrace_scope=0"
        yield Finding(Check.YAMA, Verdict.BLOCKED, fact, hint)


def _namespaces(situation: Situation) -> Iterator[Finding]:
    if situation.namespaces:
        fact = f"it is in a container: its {' and '.join(situation.namespaces)} namespaces are not ours"
        if "user" in situation.namespaces:
            yield Finding(Check.NAMESPACES, Verdict.LIMITED, fact, "the owner of its user namespace has rights over it")
        else:
            yield Finding(Check.NAMESPACES, Verdict.NOTE, fact)
    if situation.first_in_namespace:
        fact = "it is process 1 of its pid namespace: if it dies, all processes there die with it"
        yield Finding(Check.NAMESPACES, Verdict.NOTE, fact)


# ---- what would not work ----


def _seccomp(situation: Situation) -> Iterator[Finding]:
    fact = {1: "seccomp is strict: it may only read, write and end", 2: "seccomp filters its system calls"}
    if situation.seccomp in fact:
        hint = "probes that need memory in the process may be refused; those that are emulated work"
        yield Finding(Check.SECCOMP, Verdict.LIMITED, fact[situation.seccomp], hint)
    else:
        yield Finding(Check.SECCOMP, Verdict.FINE, "its system calls are not filtered")


def _shadow_stack(situation: Situation) -> Iterator[Finding]:
    if situation.shadow_stack:
        fact = "the processor checks its return addresses (shadow stack)"
        yield Finding(Check.SHADOW_STACK, Verdict.LIMITED, fact, "no return address and no frame can be made up")


def _sigtrap(situation: Situation) -> Iterator[Finding]:
    if situation.trap_ignored:
        yield Finding(Check.SIGTRAP, Verdict.LIMITED, "it ignores SIGTRAP; a hit would reset that")
    if situation.trap_blocked:
        fact = f"{_count(situation.trap_blocked, 'thread')} of it block SIGTRAP; a hit there would reset that"
        yield Finding(Check.SIGTRAP, Verdict.LIMITED, fact)


def _freezer(situation: Situation) -> Iterator[Finding]:
    if situation.groups.frozen:
        fact = "its control group is frozen: no thread runs, and none can be asked for anything"
        yield Finding(Check.FREEZER, Verdict.LIMITED, fact, "thaw it first")


def _scheduling(situation: Situation) -> Iterator[Finding]:
    if situation.realtime:
        fact = "it runs with real-time priority, and may keep us from the processor while others wait"
        yield Finding(Check.SCHEDULING, Verdict.LIMITED, fact)


def _memory(situation: Situation) -> Iterator[Finding]:
    room = situation.groups.memory_room
    if room is not None and room < LITTLE_MEMORY:
        fact = f"its control group has {room >> 10} KiB of memory left, and each probed page takes 4"
        yield Finding(Check.MEMORY, Verdict.LIMITED, fact, "raise the group's limit, or probe fewer functions")


def _address_space(situation: Situation) -> Iterator[Finding]:
    if situation.address_room is not None and situation.address_room < LITTLE_MEMORY:
        fact = f"RLIMIT_AS leaves it {situation.address_room >> 10} KiB of address space"
        hint = f"prlimit --as=unlimited --pid {situation.subject.pid}"
        yield Finding(Check.ADDRESS_SPACE, Verdict.LIMITED, fact, hint)


def _mappings(situation: Situation) -> Iterator[Finding]:
    if situation.mapping_room is not None and situation.mapping_room < FEW_MAPPINGS:
        fact = f"it may have {max(situation.mapping_room, 0)} more mappings (vm.max_map_count)"
        yield Finding(Check.MAPPINGS, Verdict.LIMITED, fact, "raise it: sudo sysctl vm.max_map_count=262144")


def _kernel_probes(situation: Situation) -> Iterator[Finding]:
    if situation.kernel_probes:
        fact = "the kernel's own uprobes have been in its code; places that they hold are refused"
        yield Finding(Check.KERNEL_PROBES, Verdict.NOTE, fact)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


_CHECKS: Final[tuple[Callable[[Situation], Iterator[Finding]], ...]] = (
    _life,
    _kind,
    _bits,
    _tracer,
    _user,
    _dumpable,
    _capabilities,
    _yama,
    _namespaces,
    _seccomp,
    _shadow_stack,
    _sigtrap,
    _freezer,
    _scheduling,
    _memory,
    _address_space,
    _mappings,
    _kernel_probes,
)
