"""The exceptions of this package.

Each is a :class:`UprobeError` and also the builtin that fits, carries what it speaks of as attributes, and
says in its text the place, the fact, the value and a way out (``hint``). An exception raised in a user's
callback is not wrapped: it reaches the user as it is.
"""
# ruff: noqa: N818 (the names say what happened, as TargetGone; all end in UprobeError's tree)

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from enum import IntEnum

EXIT_GOOD: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_PERMISSION: Final = 77


def _rebuild(kind: type[UprobeError], args: tuple[Any, ...], state: dict[str, Any]) -> UprobeError:
    """Make an exception again without its constructor, whose arguments differ from kind to kind."""
    # kind.__new__ may be that of a builtin which CPython holds unsafe here; the layout comes from __base__
    base: Any = kind.__base__
    error: UprobeError = base.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


def _listed(names: Iterable[str], limit: int = 8) -> str:
    """At most `limit` names, and how many were left out."""
    shown = list(names)
    more = len(shown) - limit
    return ", ".join(shown[:limit]) + (f" and {more} more" if more > 0 else "")


class UprobeError(Exception):
    """Any failure that this package reports. `hint` is the way out, or None."""

    hint: str | None = None

    def __init__(self, fact: str, *, hint: str | None = None) -> None:
        """`fact` is the whole message but for the hint."""
        super().__init__(f"{fact}; hint: {hint}" if hint else fact)
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep every attribute across pickling, as between the processes of a pool."""
        return _rebuild, (type(self), self.args, self.__dict__.copy())


class DecodeError(UprobeError, ValueError):
    """Bytes that are not an instruction, or arguments that the decoder cannot use.

    `code` are the bytes that were looked at, `offset` the first of them that cannot belong to an instruction.
    """

    def __init__(self, fact: str, *, code: bytes = b"", offset: int = 0, hint: str | None = None) -> None:
        """`fact` is the whole message but for the hint."""
        super().__init__(fact, hint=hint)
        self.code = code
        self.offset = offset


class SpecError(UprobeError, ValueError):
    """The text is not a probe specification. `position` counts characters of `text` from 0."""

    def __init__(self, text: str, position: int, fact: str, *, hint: str | None = None) -> None:
        """`fact` says what is wrong at `position`."""
        shown = text if len(text) <= 80 else text[:80] + "…"
        super().__init__(f"bad probe specification {shown!r} at character {position}: {fact}", hint=hint)
        self.text = text
        self.position = position


class InvalidElf(UprobeError, ValueError):
    """A file is not an ELF file that can hold probes, or is damaged."""

    def __init__(self, path: str, fact: str, *, hint: str | None = None) -> None:
        """`fact` says what is wrong with it."""
        super().__init__(f"cannot read {path}: {fact}", hint=hint)
        self.path = path


class SymbolNotFound(UprobeError, LookupError):
    """Nothing by that name. `near` are names that exist and look alike, the likeliest first."""

    def __init__(
        self,
        symbol: str,
        module: str | None,
        *,
        fact: str = "no such function",
        near: Iterable[str] = (),
        hint: str | None = None,
    ) -> None:
        """`module` is None when every loaded module was searched."""
        self.symbol = symbol
        self.module = module
        self.near = tuple(near)
        place = f"{module}:{symbol}" if module else symbol
        where = "" if module else " in any loaded module"
        if hint is None and self.near:
            hint = f"did you mean {_listed(self.near)}?"
        super().__init__(f"cannot probe {place}: {fact}{where}", hint=hint)


class AmbiguousSymbol(UprobeError, LookupError):
    """A name stands for several places. `candidates` are the specifications that would be exact."""

    def __init__(self, symbol: str, candidates: Iterable[str], *, hint: str | None = None) -> None:
        """`candidates` in the order in which they should be shown."""
        self.symbol = symbol
        self.candidates = tuple(candidates)
        super().__init__(
            f"cannot probe {symbol}: {len(self.candidates)} places have that name",
            hint=hint or f"say which: {_listed(self.candidates)}",
        )


class ModuleNotFound(UprobeError, LookupError):
    """No such file, or the process has not loaded it. `near` are modules that look alike."""

    def __init__(
        self,
        module: str,
        *,
        pid: int | None = None,
        fact: str | None = None,
        near: Iterable[str] = (),
        hint: str | None = None,
    ) -> None:
        """`pid` is None when there is no process and files were searched."""
        self.module = module
        self.pid = pid
        self.near = tuple(near)
        if fact is None:
            fact = "no such file" if pid is None else f"not loaded in process {pid}"
        if hint is None and self.near:
            hint = f"did you mean {_listed(self.near)}?"
        super().__init__(f"cannot find module {module}: {fact}", hint=hint)


class TargetGone(UprobeError, ProcessLookupError):
    """The process ended, or its number belongs to another process by now."""

    errno: int | None = errno.ESRCH

    def __init__(self, pid: int, fact: str = "no such process", *, hint: str | None = None) -> None:
        """`fact` says how it is known."""
        super().__init__(f"cannot trace process {pid}: {fact}", hint=hint)
        self.pid = pid


class NotPermitted(UprobeError, PermissionError):
    """The kernel does not let us trace the process. `hint` says what would."""

    errno: int | None = errno.EPERM

    def __init__(self, pid: int, fact: str, *, hint: str | None = None) -> None:
        """`fact` names the rule that forbids it and the value that decided."""
        super().__init__(f"cannot trace process {pid}: {fact}", hint=hint)
        self.pid = pid


class AlreadyTraced(NotPermitted):
    """A process can have one tracer, and has one: `tracer` is its pid."""

    def __init__(self, pid: int, tracer: int, name: str = "") -> None:
        """`name` is the tracer's command name where it is known."""
        who = f"process {tracer} ({name})" if name else f"process {tracer}"
        super().__init__(pid, f"it is traced by {who}", hint=f"detach that one, or end it: kill {tracer}")
        self.tracer = tracer


class UnsupportedTarget(UprobeError):
    """A process or a file of a kind that cannot be probed at all: 32-bit, a kernel thread, ourselves."""

    def __init__(self, target: str | int, fact: str, *, hint: str | None = None) -> None:
        """`target` is a pid or a path."""
        self.pid = target if isinstance(target, int) else None
        self.path = target if isinstance(target, str) else None
        name = f"process {target}" if isinstance(target, int) else target
        super().__init__(f"cannot probe {name}: {fact}", hint=hint)


class ProbeRefused(UprobeError):
    """A place that cannot be probed safely, or not in the way that was asked for. Nothing was changed."""

    def __init__(
        self,
        refusal: IntEnum,
        *,
        address: int,
        module: str | None = None,
        symbol: str | None = None,
        offset: int = 0,
        fact: str | None = None,
        hint: str | None = None,
    ) -> None:
        """`address` is in the process, `offset` in bytes from `symbol`; `fact` defaults to the name."""
        self.refusal = refusal
        self.address = address
        self.module = module
        self.symbol = symbol
        self.offset = offset
        if fact is None:
            fact = refusal.name.lower().replace("_", " ")
        place = hex(address)
        if symbol is not None:
            name = f"{symbol}+{offset:#x}"
            place = f"{module}:{name} ({place})" if module else f"{name} ({place})"
        elif module is not None:
            place = f"{module} ({place})"
        super().__init__(f"cannot probe {place}: {fact}", hint=hint)


class NoRoom(UprobeError, MemoryError):
    """No free address space of `size` bytes; with `near`, within reach of those addresses."""

    def __init__(
        self,
        size: int,
        *,
        near: tuple[int, int] | None = None,
        fact: str | None = None,
        hint: str | None = None,
    ) -> None:
        """`near` is a half-open range of addresses."""
        self.size = size
        self.near = near
        if fact is None:
            where = f" within reach of {near[0]:#x}-{near[1]:#x}" if near else ""
            fact = f"no free address space of {size} bytes{where}"
        super().__init__(fact, hint=hint)


class TracerLost(TargetGone):
    """The tracer of a process was killed from outside; counts are those up to then.

    `clean`: whether all that it had changed in the process was taken back. False: but for an area in which a thread
    still stood; None: it could not be done.
    """

    def __init__(self, pid: int, clean: bool | None) -> None:
        """`clean` as above."""
        fact = "its tracer was killed; " + ("all was taken back" if clean else "the process runs on with breakpoints")
        if clean is False:
            fact = "its tracer was killed; all probes were taken back"
        super().__init__(pid, fact, hint="attach again" if clean else f"uprobes recover -p {pid}")
        self.clean = clean


class MemoryFault(UprobeError, OSError):
    """Memory of the target that is not mapped, or not all of it. `size` is in bytes."""

    errno: int | None = errno.EFAULT

    def __init__(self, address: int, size: int, access: str) -> None:
        """`access` is ``read`` or ``write``."""
        super().__init__(f"cannot {access} {size} bytes at {address:#x}: they are not all mapped")
        self.address = address
        self.size = size


class RemoteCallFailed(UprobeError):
    """No thread of the target could be asked to make a system call. `call` is its name."""

    def __init__(self, pid: int, call: str, *, hint: str | None = None) -> None:
        """`hint` defaults to the usual reasons."""
        super().__init__(
            f"process {pid} cannot be asked for {call}: no thread of it stops between two instructions",
            hint=hint or "its threads are in the kernel or frozen; try again",
        )
        self.pid = pid
        self.call = call


class JournalError(UprobeError, OSError):
    """The journal, in which every change to a target is written down first, cannot be had. Nothing was changed.

    `path` is of the file or directory, `errno` the system's reason where there is one.
    """

    errno: int | None = None

    def __init__(self, path: str, fact: str, *, hint: str | None = None) -> None:
        """`fact` says what is wrong with it."""
        super().__init__(f"cannot write the journal {path}: {fact}", hint=hint)
        self.path = path

    @classmethod
    def of(cls, path: str, error: OSError) -> JournalError:
        """For an `error` of the file system's."""
        hints = {
            errno.ENOSPC: "make room there, or set XDG_RUNTIME_DIR",
            errno.EDQUOT: "make room there, or set XDG_RUNTIME_DIR",
            errno.EFBIG: "raise the limit of file sizes: ulimit -f",
            errno.EBADMSG: "it is damaged, or of another version; remove it if nothing is left in the process",
        }
        fact = os.strerror(error.errno).lower() if error.errno else str(error)
        made = cls(path, fact, hint=hints.get(error.errno or 0, "set XDG_RUNTIME_DIR to a directory of your own"))
        made.errno = error.errno
        return made


class PredicateError(UprobeError, ValueError):
    """A ``when`` expression that is not understood. `position` counts characters of `text` from 0."""

    def __init__(self, text: str, position: int, fact: str, *, hint: str | None = None) -> None:
        """`fact` says what is wrong at `position`."""
        super().__init__(f"bad condition {text!r} at character {position}: {fact}", hint=hint)
        self.text = text
        self.position = position


class FieldError(UprobeError, ValueError):
    """Something that cannot be recorded was asked for: `field` is its name."""

    def __init__(self, field: str, fact: str, *, hint: str | None = None) -> None:
        """`fact` says what is wrong with it."""
        super().__init__(f"cannot record {field!r}: {fact}", hint=hint)
        self.field = field


class SandboxError(UprobeError, RuntimeError):
    """The self-test's child process cannot be made, or was lost; the message says at what."""


EXIT_CODES: Final[dict[type[BaseException], int]] = {
    SpecError: EXIT_USAGE,
    PredicateError: EXIT_USAGE,
    FieldError: EXIT_USAGE,
    NotPermitted: EXIT_PERMISSION,
    PermissionError: EXIT_PERMISSION,
}


def exit_code(error: BaseException | None) -> int:
    """The code with which the command ends for `error`: the nearest class of the table counts, else 1."""
    if error is None:
        return EXIT_GOOD
    return next((EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES), EXIT_FAILED)
