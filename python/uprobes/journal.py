"""Where journals lie, who may use one, and how a dead tracer's is told from a living one's.

One file a target, `PID-STARTTIME.journal`, in a directory of the user's own. The file is locked (fcntl) as long as the
tracing program or its tracer lives: the two share their descriptors, and a forked child inherits no such lock. A
description for people and programs (kept probes) may lie beside it, as JSON.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from uprobe_core.linux.journal import Journal as Records
from uprobes.errors import AlreadyTraced, JournalError, TargetGone
from uprobes.process import start_time

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIX: Final = ".journal"
# struct flock: l_type, l_whence, l_start, l_len, l_pid
_LOCK: Final = struct.Struct("hhqqi4x")

# A process's own locks do not exclude itself, and go with the first descriptor of the file that it closes.
_ours: set[tuple[int, int]] = set()
_guard = threading.Lock()


@dataclass(frozen=True, slots=True)
class Found:
    """A journal in some directory. `owner`: the pid of the process that holds it, 0 if nobody does."""

    path: Path
    pid: int
    start_time: int
    owner: int


class Journal:
    """The journal of one target, open and locked by us. Close it to keep the file, `remove()` it when all is undone."""

    def __init__(self, path: Path, records: Records) -> None:
        """Use ``create()`` or ``take()``."""
        self.path = path
        self.records = records
        self._key = _key(records.pid, records.start_time)

    def describe(self, description: object) -> None:
        """Lay a JSON description beside it, all or nothing; it goes with the journal."""
        draft = self.path.with_suffix(".draft")
        with _told(draft):
            draft.write_text(json.dumps(description))
            draft.rename(self.path.with_suffix(".json"))

    @property
    def description(self) -> Any:
        """What ``describe()`` laid there, or None."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            return json.loads(self.path.with_suffix(".json").read_text())
        return None

    def remove(self) -> None:
        """Nothing of ours is left in the target: the file goes, and the lock with it."""
        for path in (self.path, self.path.with_suffix(".json")):
            with contextlib.suppress(OSError):
                path.unlink()
        self.close()

    def close(self) -> None:
        """Let go of it; the file stays."""
        self.records.close()
        with _guard:
            _ours.discard(self._key)


def create(pid: int) -> Journal:
    """A fresh journal for process `pid`, before anything is changed in it. AlreadyTraced, JournalError."""
    started = start_time(pid)
    path = own_directory() / _name(pid, started)
    with _claimed(pid, started), _told(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            _require_own(path, os.fstat(descriptor))
            _lock(descriptor, pid)
            if os.fstat(descriptor).st_size:
                _require_void(path, descriptor, pid)
                os.ftruncate(descriptor, 0)
            records = Records(descriptor, pid, started)
        except BaseException:
            os.close(descriptor)
            raise
    return Journal(path, records)


def take(found: Found) -> Journal:
    """The journal of a tracer that is dead, to undo what it says. AlreadyTraced, JournalError."""
    with _claimed(found.pid, found.start_time), _told(found.path):
        descriptor = os.open(found.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            _lock(descriptor, found.pid)
            records = Records(descriptor)
            if (records.pid, records.start_time) != (found.pid, found.start_time):
                raise JournalError(str(found.path), f"it speaks of process {records.pid}", hint="remove the file")
            records.take_over()
        except BaseException:
            os.close(descriptor)
            raise
    return Journal(found.path, records)


def find(pid: int | None = None) -> list[Found]:
    """All journals that we may take, of process `pid` or of every one; another user's only if the process is that
    user's too. A journal whose process is gone is found as well.
    """
    return [found for directory in _directories() for found in _find_in(directory, pid)]


def find_dead(pid: int) -> Found | None:
    """The journal of a tracer of process `pid` that is dead, or None."""
    with contextlib.suppress(TargetGone):
        started = start_time(pid)
        for found in find(pid):
            if found.start_time == started and not found.owner:
                return found
    return None


def own_directory() -> Path:
    """The directory in which our own journals are made; it is made if need be. JournalError."""
    path = _own_path()
    with _told(path):
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        _require_private(path, os.lstat(path))
    return path


def _own_path() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and _is_ours(runtime):
        return Path(runtime) / "uprobes"
    if os.geteuid() == 0:
        return Path("/run/uprobes")
    return Path(f"/tmp/uprobes-{os.geteuid()}")  # noqa: S108 (checked by _require_private)


def _is_ours(path: str) -> bool:
    with contextlib.suppress(OSError):
        return os.lstat(path).st_uid == os.geteuid()
    return False


def _directories() -> Iterator[Path]:
    """Everywhere that a journal may lie: our own directory, and the other places that one could have been made in."""
    seen = []
    users: set[str] = {str(os.geteuid())}
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            users.update(os.listdir("/run/user"))
        users.update(each.name.rpartition("-")[2] for each in Path("/tmp").glob("uprobes-*"))  # noqa: S108
    candidates = [_own_path(), Path("/run/uprobes")]
    for user in sorted(users):
        candidates += [Path("/run/user") / user / "uprobes", Path(f"/tmp/uprobes-{user}")]  # noqa: S108
    for path in candidates:
        with contextlib.suppress(OSError, JournalError):
            there = os.lstat(path)
            _require_private(path, there, any_owner=os.geteuid() == 0)
            if (there.st_dev, there.st_ino) not in seen:
                seen.append((there.st_dev, there.st_ino))
                yield path


def _find_in(directory: Path, pid: int | None) -> Iterator[Found]:
    for path in sorted(directory.glob(f"{'*' if pid is None else pid}-*{SUFFIX}")):
        first, _, second = path.name.removesuffix(SUFFIX).partition("-")
        if not (first.isdecimal() and second.isdecimal()):
            continue
        with contextlib.suppress(OSError):
            if _may_believe(os.lstat(path), int(first)):
                yield Found(path, int(first), int(second), _owner(path, int(first), int(second)))


def _may_believe(there: os.stat_result, pid: int) -> bool:
    """What a journal says is checked, but whom it may make us write to is its owner's business alone."""
    if not stat.S_ISREG(there.st_mode) or there.st_nlink != 1:
        return False
    if there.st_uid == os.geteuid():
        return True
    try:
        return os.stat(f"/proc/{pid}").st_uid == there.st_uid
    except FileNotFoundError:
        return True  # there is nobody to write to


def _owner(path: Path, pid: int, started: int) -> int:
    with _guard:
        if _key(pid, started) in _ours:
            return os.getpid()
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return _lock_owner(descriptor)
    finally:
        os.close(descriptor)


def _lock_owner(descriptor: int) -> int:
    """Whose lock keeps us from ours; 0: nobody's, -1: a process that we cannot name."""
    query = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = _LOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, query))
    return 0 if kind == fcntl.F_UNLCK else int(pid) or -1


def _lock(descriptor: int, pid: int) -> None:
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        raise AlreadyTraced(pid, _lock_owner(descriptor), "another uprobes") from None


@contextlib.contextmanager
def _claimed(pid: int, started: int) -> Iterator[None]:
    """Keeps this process from having the same journal twice."""
    key = _key(pid, started)
    with _guard:
        if key in _ours:
            raise AlreadyTraced(pid, os.getpid(), "this very process")
        _ours.add(key)
    try:
        yield
    except BaseException:
        with _guard:
            _ours.discard(key)
        raise


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Failures of the file system say what they stopped."""
    try:
        yield
    except OSError as error:
        if isinstance(error, AlreadyTraced | JournalError):
            raise
        raise JournalError.of(str(path), error) from error


@contextlib.contextmanager
def told_as_journal(journal: Journal | None) -> Iterator[None]:
    """Failures for want of space on the disk are the journal's: nothing else here writes to a file."""
    try:
        yield
    except OSError as error:
        if journal is None or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise JournalError.of(str(journal.path), error) from error


def _require_private(path: Path, there: os.stat_result, *, any_owner: bool = False) -> None:
    """The directory must be one, and closed to others; whoever made it first could else read along, or lay links."""
    if not stat.S_ISDIR(there.st_mode):
        raise JournalError(str(path), "it is no directory", hint="remove it")
    if there.st_uid != os.geteuid() and not any_owner:
        raise JournalError(str(path), f"it belongs to user {there.st_uid}", hint="set XDG_RUNTIME_DIR")
    if there.st_mode & 0o077:
        raise JournalError(str(path), f"others may use it (mode {there.st_mode & 0o777:o})", hint=f"chmod 700 {path}")


def _require_void(path: Path, descriptor: int, pid: int) -> None:
    """A dead tracer's journal that says nothing may be written over."""
    try:
        records = Records(descriptor)
    except OSError:
        return  # no more than the beginning of one
    if records.patches() or records.areas() or records.signals():
        fact = f"it says what a dead tracer has left in process {pid}"
        raise JournalError(str(path), fact, hint=f"uprobes recover -p {pid}")


def _require_own(path: Path, there: os.stat_result) -> None:
    if not stat.S_ISREG(there.st_mode) or there.st_uid != os.geteuid() or there.st_nlink != 1:
        raise JournalError(str(path), "it is no file of our own", hint="remove it")


def _name(pid: int, started: int) -> str:
    return f"{pid}-{started}{SUFFIX}"


def _key(pid: int, started: int) -> tuple[int, int]:
    return pid, started
