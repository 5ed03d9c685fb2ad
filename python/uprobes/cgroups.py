"""What the control groups of a process leave it: whether it is frozen, and how much memory it may still take.

Version 1 and 2 hierarchies; a group's limit is that of the tightest of its ancestors.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

UNIFIED: Final = ""
"""The name by which the version 2 hierarchy goes here; those of version 1 go by their controller."""
_UNLIMITED: Final = 1 << 60
"""Version 1 says `no limit` by a number near 2**63."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Directories of a process's groups by controller, each with its ancestors from the leaf up."""

    directories: dict[str, tuple[str, ...]]

    @property
    def frozen(self) -> bool:
        """Whether a freezer holds the process: it runs again only when that lets go."""
        for directory in self.directories.get(UNIFIED, ()):
            if "frozen 1" in _read(f"{directory}/cgroup.events").splitlines():
                return True
        return any(
            _read(f"{directory}/freezer.state").strip() not in ("", "THAWED")
            for directory in self.directories.get("freezer", ())
        )

    @property
    def memory_room(self) -> int | None:
        """Bytes that the process may still take before its groups are at their limit; None: no limit."""
        rooms = []
        for controller, limit, usage in (
            (UNIFIED, "memory.max", "memory.current"),
            ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            for directory in self.directories.get(controller, ()):
                with suppress(ValueError):  # `max`, or no such file at the root
                    allowed = int(_read(f"{directory}/{limit}"))
                    if allowed < _UNLIMITED:
                        rooms.append(max(0, allowed - int(_read(f"{directory}/{usage}"))))
        return min(rooms, default=None)


def read_groups(text: str) -> Groups:
    """The groups that the text of /proc/PID/cgroup names, as far as their hierarchies are mounted here."""
    mounts = _hierarchies()
    directories: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in mounts:
                directories[controller] = tuple(_upwards(mounts[controller], path))
    return Groups(directories)


def _upwards(mount: str, path: str) -> Iterator[str]:
    path = os.path.normpath(path)
    while True:
        yield f"{mount}{path}".rstrip("/")
        if path in ("/", "."):
            return
        path = os.path.dirname(path)


@cache
def _hierarchies() -> dict[str, str]:
    """Where each controller's hierarchy is mounted."""
    found: dict[str, str] = {}
    for line in _read("/proc/self/mountinfo").splitlines():
        head, _, tail = line.partition(" - ")
        mount = head.split()[4]
        kind, _, options = tail.split(" ", 2)
        if kind == "cgroup2":
            found.setdefault(UNIFIED, mount)
        elif kind == "cgroup":
            for option in options.split(","):
                found.setdefault(option, mount)
    return found


def _read(path: str) -> str:
    """The text of a file; empty where there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
