"""One process's directory in /proc, held open: once its process is gone it never shows another of the same number."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from uprobes.errors import NotPermitted, TargetGone

if TYPE_CHECKING:
    from types import TracebackType

# Fields 3, 22 and 28 of stat, counted from the one after the command name.
_STATE, _START_TIME, _START_STACK = 0, 19, 25
_ENDED = (b"Z", b"X")
# What belongs to the memory and the open files is gone with the first thread, though others may have it still.
_SHARED = ("maps", "mem", "exe", "root", "auxv")


class ProcDirectory:
    """A context manager. Methods raise TargetGone once the process has ended, NotPermitted where access is denied."""

    def __init__(self, pid: int) -> None:
        """TargetGone if there is no such process."""
        self.pid = pid
        try:
            self._descriptor = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise TargetGone(pid, hint="ps -e lists those that there are") from None
        self._thread = self._find_living_thread()

    def __enter__(self) -> Self:
        """The directory itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        os.close(self._descriptor)

    def open(self, name: str, flags: int = os.O_RDONLY) -> int:
        """A descriptor of a file of the directory, or behind one of its links; OSError as it comes."""
        return os.open(self._path(name), flags | os.O_CLOEXEC, dir_fd=self._descriptor)

    def _path(self, name: str) -> str:
        return self._thread + name if name.partition("/")[0] in _SHARED else name

    def read(self, name: str) -> bytes:
        """The whole of a file."""
        try:
            with os.fdopen(self.open(name), "rb", buffering=0) as file:
                return file.read()
        except (FileNotFoundError, ProcessLookupError):
            raise TargetGone(self.pid, f"it ended: /proc/{self.pid}/{name} is gone") from None
        except PermissionError:
            raise NotPermitted(
                self.pid,
                f"/proc/{self.pid}/{name} may not be read",
                hint=f"uprobes doctor -p {self.pid} tells what forbids it",
            ) from None

    def link(self, name: str) -> str:
        """Where a link points; OSError as it comes."""
        return os.readlink(self._path(name), dir_fd=self._descriptor)

    def stat(self, name: str) -> os.stat_result:
        """Of a file, or of what a link points to; OSError as it comes."""
        return os.stat(self._path(name), dir_fd=self._descriptor)

    def names(self, name: str) -> list[str]:
        """The names in a directory; OSError as it comes."""
        descriptor = self.open(name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return os.listdir(descriptor)
        finally:
            os.close(descriptor)

    @property
    def start_time(self) -> int:
        """When it started, in clock ticks since boot: with the pid it names a process for good."""
        return int(self._stat_fields("")[_START_TIME])

    @property
    def stack_vaddr(self) -> int:
        """Where the stack began; 0 for those who may not trace it."""
        return int(self._stat_fields("")[_START_STACK])

    def _stat_fields(self, thread: str) -> list[bytes]:
        return self.read(f"{thread}stat").rpartition(b")")[2].split()

    def _find_living_thread(self) -> str:
        """Empty for the first thread, `task/TID/` for another if the first has ended."""
        if self._stat_fields("")[_STATE] in _ENDED:
            for tid in self.tasks():
                with suppress(TargetGone):
                    if self._stat_fields(f"task/{tid}/")[_STATE] not in _ENDED:
                        return f"task/{tid}/"
        return ""

    def status(self) -> dict[str, str]:
        """The fields of `status`."""
        lines = self.read("status").decode("utf-8", "surrogateescape").splitlines()
        fields = (line.partition(":") for line in lines)
        return {name: value.strip() for name, _, value in fields}

    def tasks(self) -> list[int]:
        """The tids of its threads, the leader's first."""
        try:
            return sorted(map(int, self.names("task")), key=lambda tid: (tid != self.pid, tid))
        except (FileNotFoundError, ProcessLookupError):
            raise TargetGone(self.pid, "it ended") from None
