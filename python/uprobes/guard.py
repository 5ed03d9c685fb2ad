"""What keeps a target alive when the tracer is killed: a handler of SIGTRAP in it, made before the first breakpoint.

All methods run in the owner thread. The handler and what it needs lie in an area of their own, which is sealed like
the others, stays mapped after a detach, and is taken up again by the next attach. What it does stands in
uprobe_core/patch/trap_page.h.
"""

from __future__ import annotations

import mmap
import time
from array import array
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from uprobe_core.linux.journal import area_kind
from uprobe_core.trace import safety
from uprobes.errors import NoRoom, RemoteCallFailed
from uprobes.mapping import PAGE, mapping_at, topmost_end
from uprobes.process import read_mappings
from uprobes.situation import trap_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from uprobe_core.trace.tracer import Tracer
    from uprobes.areas import Areas
    from uprobes.mapping import Mapping

SIGTRAP: Final = 5
_ACTION_BYTES: Final = 32
_SET_BYTES: Final = 8
NAME: Final = b"uprobes traps"
NAME_OFF: Final = 18
# mov $15, %rax (or %eax); syscall: the signal restorer of glibc and Go, and that of musl.
_RESTORERS: Final = (b"\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05", b"\xb8\x0f\x00\x00\x00\x0f\x05")
_GLANCES: Final = 4
_GLANCE_SECONDS: Final = 0.005


def blocks_traps(pid: int) -> bool:
    """Whether a thread blocks SIGTRAP, and not just for a moment, as every thread does while it makes another."""
    blocked = trap_state(pid)
    for _ in range(_GLANCES - 1):
        if not blocked:
            break
        time.sleep(_GLANCE_SECONDS)
        blocked &= trap_state(pid)
    return bool(blocked)


class Guard:
    """The handler of SIGTRAP of one target."""

    def __init__(self, tracer: Tracer, pid: int, areas: Areas) -> None:
        """Nothing is made before `make_room()`."""
        self._tracer = tracer
        self._pid = pid
        self._areas = areas
        self._vaddr: int | None = None
        self._hopeless = False

    @property
    def vaddr(self) -> int | None:
        """Where its area begins; None: there is none."""
        return self._vaddr

    def inherit(self, parent: Guard) -> None:
        """The target is a copy of another, with its handler."""
        self._vaddr, self._hopeless = parent._vaddr, parent._hopeless

    def forget(self) -> None:
        """After an exec nothing is left."""
        self._vaddr = None
        self._hopeless = False

    def make_room(self, sites: int) -> None:
        """Before `sites` more sites are inserted. A target in which no area can be had goes without a guard."""
        if self._vaddr is None and self._areas.filtered:
            self._hopeless = True  # what could not be taken back is not made
        if self._hopeless:
            return
        try:
            if self._vaddr is None:
                self._make()
            size = safety.missing(self._tracer, sites)
            if size:
                table = self._areas.make_table(size)
                safety.move(self._tracer, table, size)
        except (NoRoom, RemoteCallFailed):
            self._hopeless = True

    def _make(self) -> None:
        mappings = read_mappings(self._pid)
        vaddr = self._find(mappings)
        self._tell_stacks(mappings)
        fresh = vaddr is None
        if vaddr is None:
            vaddr = self._areas.map(topmost_end(mappings) + PAGE, safety.AREA_SIZE, 0)
        self._areas.journal_area(vaddr, safety.AREA_SIZE, area_kind.AREA_TRAPS, sealed=not fresh)
        before = self._read_disposition()
        self._areas.journal_signal(before)
        ours = safety.make(self._tracer, vaddr, before)
        self._areas.use_gadget(vaddr)
        sealed = not fresh or self._areas.seal(vaddr, safety.AREA_SIZE)
        if self._areas.system_call("rt_sigaction", SIGTRAP, ours, 0, _SET_BYTES) < 0:
            raise RemoteCallFailed(self._pid, "rt_sigaction")
        safety.set_installed(self._tracer, sealed)
        self._vaddr = vaddr

    def _read_disposition(self) -> bytes:
        """The kernel tells it only by writing it into memory of the target's: a page that is mapped for that."""
        page = self._areas.map(0, PAGE, 0, mmap.PROT_READ | mmap.PROT_WRITE)
        try:
            if self._areas.system_call("rt_sigaction", SIGTRAP, 0, page, _SET_BYTES) < 0:
                raise RemoteCallFailed(self._pid, "rt_sigaction")
            return self._tracer.read(page, _ACTION_BYTES)
        finally:
            self._areas.system_call("munmap", page, PAGE)

    def _find(self, mappings: Iterable[Mapping]) -> int | None:
        """The area of an earlier attach."""
        for mapping in mappings:
            likely = mapping.rights == "r-xp" and not mapping.name and mapping.size == safety.AREA_SIZE
            if likely and self._tracer.read_some(mapping.start + NAME_OFF, len(NAME)) == NAME:
                return mapping.start
        return None

    def _tell_stacks(self, mappings: Sequence[Mapping]) -> None:
        """For the calls that come before there is a gadget of ours."""
        restorer = next(filter(None, map(self._restorer_in, mappings)), 0)
        safety.set_stacks(self._tracer, restorer, array("Q", stack_bounds(mappings)))

    def _restorer_in(self, mapping: Mapping) -> int:
        if not mapping.executable or mapping.name == "[vsyscall]":
            return 0
        code = self._tracer.read_some(mapping.start, mapping.size)
        places = [place for place in map(code.find, _RESTORERS) if place >= 0]
        return mapping.start + min(places) if places else 0

    def restore(self) -> None:
        """Make the area again that the target has unmapped, and write all that was in it."""
        if self._vaddr is None:
            return
        with suppress(NoRoom, RemoteCallFailed):
            mapping = mapping_at(read_mappings(self._pid), self._vaddr)
            if mapping is None:
                self._areas.map_again(self._vaddr, safety.AREA_SIZE)
            safety.rewrite(self._tracer)
            self._areas.use_gadget(self._vaddr)
            return
        self._vaddr = None
        self._hopeless = True

    def is_mapped(self, mappings: Sequence[Mapping]) -> bool:
        """Whether the area is where it was made."""
        mapping = None if self._vaddr is None else mapping_at(mappings, self._vaddr)
        return mapping is not None and mapping.executable


def stack_bounds(mappings: Sequence[Mapping]) -> list[int]:
    """Start and end of each mapping that is a stack: the kernel says so, or a page that nobody may touch is below."""
    bounds = []
    below: Mapping | None = None
    for mapping in mappings:
        guarded = below is not None and below.rights == "---p" and below.end == mapping.start and not mapping.is_file
        if mapping.rights == "rw-p" and (mapping.name == "[stack]" or guarded):
            bounds += [mapping.start, mapping.end]
        below = mapping
    return bounds
