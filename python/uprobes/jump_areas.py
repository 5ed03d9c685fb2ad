"""Areas of trampolines: near the module whose code leads there, a gate page and the code behind it.

The gate page has the addresses of the boards. A fork's child gets an empty one, so that it runs the same code and
counts nothing. All methods run in the owner thread.
"""

from __future__ import annotations

import mmap
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from uprobe_core.linux.journal import area_kind
from uprobes.areas import REACH
from uprobes.errors import NoRoom, RemoteCallFailed
from uprobes.mapping import PAGE
from uprobes.process import find_hole, mapping_at, read_mappings

if TYPE_CHECKING:
    from uprobe_core.trace.jumps import Jumps
    from uprobe_core.trace.tracer import Tracer
    from uprobes.areas import Areas

NAME: Final = b"uprobes\0"
HEADER: Final = (b"\x0f\x05\xc3uprobes jumps\0" + NAME).ljust(64, b"\xcc")
"""At the start of the code: a `syscall` of our own, what it is, and the name for boards."""
NAME_OFFSET: Final = HEADER.index(NAME + b"\xcc")
SMALLEST: Final = 1 << 16
UNIT: Final = 32
"""Bytes in which the core gives room out."""
_MADV_WIPEONFORK: Final = 18
_MAP_FIXED_NOREPLACE: Final = 0x100000
_BREAKPOINT: Final = b"\xcc"


class JumpAreas:
    """The areas of one target."""

    def __init__(self, tracer: Tracer, jumps: Jumps, areas: Areas, pid: int) -> None:
        """Nothing is mapped yet. `areas` makes the target's system calls."""
        self._tracer = tracer
        self._jumps = jumps
        self._areas = areas
        self._pid = pid
        self._looked = False

    @property
    def name_vaddr(self) -> int:
        """Where the target has the name for boards; only after an area was made."""
        return int(self._jumps.areas()[0][1]) + NAME_OFFSET

    def forget(self) -> None:
        """After an exec there are none."""
        self._looked = False

    def require(self, low: int, high: int, size: int) -> None:
        """Have an area that reaches all of [low, high), with `size` bytes free. NoRoom."""
        self._reuse()
        for _, vaddr, length, free in self._jumps.areas():
            if free >= size and vaddr + length <= low + REACH and high <= vaddr + REACH:
                return
        self.make(low, high, size)

    def make(self, low: int, high: int, size: int) -> None:
        """A new area that reaches all of [low, high). NoRoom, with nothing left mapped."""
        size = PAGE + max(SMALLEST, -(-size // PAGE) * PAGE)
        hole = find_hole(read_mappings(self._pid), size, near=(max(0, high - REACH), low + REACH))
        if hole is None:
            raise NoRoom(size, near=(low, high))
        call = self._areas.system_call
        rights, flags = mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED_NOREPLACE
        gate = call("mmap", hole, size, rights, flags, -1, 0)
        if gate < 0:
            raise NoRoom(size, near=(low, high))
        # A child that counted into our numbers would be worse than no area at all.
        if call("mprotect", gate, PAGE, mmap.PROT_READ) or call("madvise", gate, PAGE, _MADV_WIPEONFORK):
            call("munmap", gate, size)
            raise NoRoom(size, fact=f"process {self._pid} cannot keep a page from its children", hint="mode='trap'")
        self._tracer.write(gate + PAGE, HEADER.ljust(size - PAGE, _BREAKPOINT))
        sealed = self._areas.seal(gate, size)
        self._areas.journal_area(gate, size, area_kind.AREA_JUMPS, sealed=sealed)
        self._adopt(gate, size, sealed=sealed)

    def adopt(self, gate: int, size: int) -> None:
        """Take up an area that an earlier tracer has left with jumps to it. JournalError: it is not there any more."""
        mappings = read_mappings(self._pid)
        first, second = mapping_at(mappings, gate), mapping_at(mappings, gate + PAGE)
        sound = first is not None and second is not None and first.rights == "r--p" and second.rights == "r-xp"
        if not sound or self._tracer.read_some(gate + PAGE, len(HEADER)) != HEADER:
            raise RemoteCallFailed(self._pid, f"the area at {gate:#x}", hint=f"uprobes recover -p {self._pid}")
        self._looked = True
        self._adopt(gate, size, sealed=True)
        self._keep_used(gate + PAGE, size - PAGE)

    def _keep_used(self, vaddr: int, size: int) -> None:
        """Nothing is given out of an area where something is already."""
        content = self._tracer.read_some(vaddr, size)
        for start in range(0, len(content), UNIT):
            if content[start : start + UNIT].strip(_BREAKPOINT):
                self._jumps.keep(vaddr + start, UNIT)

    def _adopt(self, gate: int, size: int, *, sealed: bool) -> None:
        self._jumps.add_area(gate, gate + PAGE, size - PAGE, sealed)
        self._jumps.keep(gate + PAGE, len(HEADER))
        self._areas.offer_gadget(gate + PAGE)

    def _reuse(self) -> None:
        """Take up the areas that an earlier attach has left, empty but for what may still be run."""
        if self._looked:
            return
        self._looked = True
        mappings = read_mappings(self._pid)
        for gate, code in pairwise(mappings):
            if gate.rights != "r--p" or gate.size != PAGE or gate.name or gate.end != code.start:
                continue
            if code.rights != "r-xp" or code.name:
                continue
            if self._tracer.read_some(code.start, len(HEADER)) != HEADER:
                continue
            self._adopt(gate.start, PAGE + code.size, sealed=True)
            self._keep_used(code.start, code.size)
