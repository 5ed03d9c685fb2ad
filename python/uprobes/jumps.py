"""Sites that are served without a stop: which of the wanted ones can be, and bringing the text to what is wanted.

All methods run in the owner thread.
"""

from __future__ import annotations

import errno
import os
import time
from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from uprobe_core.linux.journal import area_kind
from uprobe_core.trace.jumps import Jumps
from uprobes.board import COUNTERS_SHIFT, Board, BoardError
from uprobes.errors import NoRoom, RemoteCallFailed
from uprobes.jump_areas import JumpAreas
from uprobes.process import read_modules
from uprobes.procfs import ProcDirectory
from uprobes.refusal import Refusal
from uprobes.windows import module_windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from uprobe_core.trace.tracer import Tracer
    from uprobes.areas import Areas
    from uprobes.board import Tap
    from uprobes.module import Module
    from uprobes.places import Places
    from uprobes.soundness import Stretch

TRAMPOLINE: Final = 160
"""Bytes that a trampoline takes, about; areas are made by it."""
CELL: Final = 8
"""Bytes of a counter."""
LITERALS: Final = 512
"""Boards that a gate page can have the addresses of."""
TRIES: Final = 3
"""How often a window is tried into which a thread will return."""
PAUSE: Final = 0.002
STOP_MS: Final = 2000
_FAULTS: Final = 1 << 10 | 1 << 6 | 1 << 7
"""SIGSEGV, SIGBUS and SIGFPE in a signal set."""


class Served(NamedTuple):
    """What became of places: the engine's numbers of those that jumps serve, by index, and why the others are not."""

    numbers: dict[int, int]
    refusals: dict[int, Refusal]


class JumpTable:
    """The windows, areas and the board of one target."""

    def __init__(self, tracer: Tracer, areas: Areas, pid: int) -> None:
        """Nothing is made before the first site is inserted."""
        self._pid = pid
        self._tracer = tracer
        self._jumps = Jumps(tracer)
        self._areas = areas
        self._jump_areas = JumpAreas(tracer, self._jumps, areas, pid)
        self._board: Board | None = None
        self._boards: list[Board] = []
        self._why_no_board: Refusal | None = None

    # ---- inserting

    def insert(self, places: Places, stretch: Stretch, tap: Tap | None) -> Served:
        """Insert sites at the places of a stretch where a jump is proven right; none is enabled yet. tap: what is to be
        done there beside counting."""
        mapping, image, indices = stretch
        every = list(indices)
        module = next((one for one in read_modules(self._pid) if mapping in one.mappings), None)
        if module is None:
            return Served({}, dict.fromkeys(every, Refusal.NO_START))
        vaddrs = array("Q", (places.vaddrs[index] for index in every))
        starts, lengths, why = self._find_windows(module, vaddrs)
        refusals = {index: Refusal(refusal) for index, refusal in zip(every, why, strict=True) if refusal}
        kept = [place for place, refusal in enumerate(why) if not refusal]
        if not kept:
            return Served({}, refusals)
        low, high = _extent(module)
        missing = self._require_fit(low, high, len(kept), tap)
        if missing is not None:
            return Served({}, refusals | dict.fromkeys((every[place] for place in kept), missing))
        numbers = array("I", bytes(4 * len(kept)))
        functions = _functions(module, places, [every[place] for place in kept])
        refused = self._jumps.insert(
            array("Q", map(vaddrs.__getitem__, kept)),
            array("Q", map(starts.__getitem__, kept)),
            array("B", map(lengths.__getitem__, kept)),
            *functions, low, high, image, mapping.start, numbers,
        )  # fmt: skip
        wrong = dict(refused)
        refusals |= {every[kept[position]]: Refusal(refusal) for position, refusal in wrong.items()}
        self._reserve()
        served = {every[place]: numbers[i] for i, place in enumerate(kept) if i not in wrong}
        return Served(served, refusals)

    def _find_windows(self, module: Module, vaddrs: array[int]) -> tuple[array[int], array[int], array[int]]:
        windows = module_windows(module.binary)
        found = windows.find(
            array("Q", map(module.vaddr_of, vaddrs)), fault_first=self._handles_faults(), single=_is_go(module)
        )
        return array("Q", map(module.address_of, found.starts)), found.lengths, found.refusals

    def _handles_faults(self) -> bool:
        with ProcDirectory(self._pid) as process:
            return bool(int(process.status()["SigCgt"], 16) & _FAULTS)

    # ---- what the target needs

    def _require_fit(self, low: int, high: int, count: int, tap: Tap | None) -> Refusal | None:
        """Have an area in reach of [low, high), and boards; else why there are none."""
        if self._why_no_board is not None:
            return self._why_no_board
        if self._is_filtered():
            # A call that the filter does not know may end the process.
            self._why_no_board = Refusal.NO_BOARD
            return self._why_no_board
        try:
            self._jump_areas.require(low, high, count * TRAMPOLINE)
            if self._board is None:
                self._make_board()
            if tap is not None and tap.board.vaddr is None:
                self._share(tap.board)
                tap.board.reserve(1 << tap.board.shift)
            self._jumps.open_gates()
        except NoRoom:
            return Refusal.NO_ROOM
        except (BoardError, RemoteCallFailed):
            if self._board is None:
                self._why_no_board = Refusal.NO_BOARD
            return Refusal.NO_BOARD
        return None

    def _is_filtered(self) -> bool:
        with ProcDirectory(self._pid) as process:
            return process.status().get("Seccomp", "0") != "0"

    def _make_board(self) -> None:
        offset, signature, tid_offset = self._jumps.rseq() or (None, 0, 0)
        board = Board(COUNTERS_SHIFT)
        self._share(board)
        self._jumps.set_board(
            board.memory, board.strides, board.shift, offset, signature, _has_rdpid(), tid_offset
        )
        self._board = board

    def _share(self, board: Board) -> None:
        """Let the target have a board; its place among the literals goes to the board. BoardError."""
        if len(self._boards) == LITERALS:
            raise BoardError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        board.share(self._pid, self._jump_areas.name_vaddr, self._areas.system_call)
        board.literal = len(self._boards)
        self._boards.append(board)
        self._areas.journal_area(board.vaddr or 0, board.size, area_kind.AREA_BOARD, sealed=False)
        self._jumps.share(board.literal, board.vaddr or 0, board.size)

    def _reserve(self) -> None:
        if self._board is None:
            return
        try:
            self._board.reserve(self._jumps.cells_used * CELL)
        except BoardError as error:
            raise NoRoom(self._jumps.cells_used * CELL, fact=f"no memory for counters: {error.strerror}") from error

    # ---- what is done beside counting

    def tie(self, numbers: array[int], tap: Tap) -> array[int]:
        """From now on hits of these sites, where jumps serve them, do what the tap says too. Sites that jumps
        serve, but cannot so any more, are returned."""
        jumped = self._jumps.served(numbers)
        return jumped if tap.board.vaddr is None else self._jumps.tie(jumped, tap.plan, tap.board.literal)

    def untie(self, numbers: array[int], tap: Tap) -> None:
        """The opposite."""
        if tap.board.vaddr is not None:
            self._jumps.untie(numbers, tap.plan)

    # ---- enabling

    def apply(self, numbers: array[int]) -> array[int]:
        """Bring the text to what is enabled of these sites, and of others in their windows. Returned are sites that
        a jump cannot serve after all: threads keep coming back into the bytes, or somebody else has changed them."""
        windows = self._jumps.windows_of(numbers)
        left, failed = windows, array("I")
        for attempt in range(TRIES):
            while (missing := self._jumps.prepare(left)) is not None:
                self._make_room(*missing, len(left))
            busy, changed = self._jumps.apply(left)
            failed += changed
            left = busy
            if not left:
                break
            time.sleep(PAUSE * 2**attempt)
        return self._jumps.sites_in(failed + left)

    def _make_room(self, low: int, high: int, count: int) -> None:
        if not self._jumps.reclaim():
            self._jump_areas.make(low, high, count * TRAMPOLINE)
            self._jumps.open_gates()

    # ---- sites that must be served by traps

    def neighbours(self, vaddrs: Iterable[int]) -> tuple[array[int], array[int]]:
        """The windows in use that have these addresses among their bytes, and the sites that these windows serve."""
        windows = self._jumps.windows_at(array("Q", vaddrs))
        return windows, self._jumps.sites_in(windows)

    def set_leaving(self, windows: array[int], *, leaving: bool) -> None:
        """Whether sites in these windows may be planned for traps."""
        self._jumps.set_leaving(windows, leaving)

    def demote(self, windows: array[int]) -> None:
        """Their sites, planned for it, are served by traps from now on, all at once."""
        self._jumps.demote(windows)

    # ---- staying without a tracer

    def describe_kept(self) -> dict[str, Any]:
        """Areas, board, windows and the sites that they serve, for adopt()."""
        board = self._board
        numbers = self._jumps.sites_served()
        sites = []
        for number in numbers:
            vaddr, _, _, _, length, _, _ = self._tracer.site(number)
            sites.append((number, vaddr, length, *self._jumps.cell(number)))
        return {
            "areas": [(gate, vaddr + size - gate) for gate, vaddr, size, _ in self._jumps.areas()],
            "board": None
            if board is None
            else {
                "vaddr": board.vaddr,
                "shift": board.shift,
                "strides": board.strides,
                "used": self._jumps.cells_used * CELL,
            },
            "windows": [
                (vaddr, original.hex(), *trampoline) for vaddr, original, *trampoline in self._jumps.windows()
            ],
            "sites": sites,
        }

    def adopt(self, described: dict[str, Any], agrees: Callable[[int, bytes], bool]) -> dict[int, int]:
        """Take up what describe_kept() told of; the sites' numbers by the old ones. Left out is what has changed:
        `agrees` tells whether the mapped file has some bytes at an address. JournalError."""
        for gate, size in described["areas"]:
            self._jump_areas.adopt(gate, size)
        self._take_board(described["board"])
        extents = [(module, _extent(module)) for module in read_modules(self._pid)]
        windows: list[tuple[int, int, int]] = []
        for vaddr, original, *trampoline in described["windows"]:
            within = next((extent for module, extent in extents if vaddr in module), None)
            content = bytes.fromhex(original)
            if within is None or not agrees(vaddr, content):
                continue
            number = self._jumps.adopt_window(vaddr, content, *trampoline, *within)
            if number is not None:
                windows.append((vaddr, vaddr + len(content), number))
        windows.sort()
        numbers = {}
        for old, vaddr, length, cell, hits in described["sites"]:
            place = bisect_right(windows, (vaddr, 1 << 64, 0)) - 1
            if place >= 0 and vaddr + length <= windows[place][1]:
                numbers[old] = self._jumps.adopt_site(windows[place][2], vaddr, length, cell, hits)
        return numbers

    def _take_board(self, described: dict[str, int] | None) -> None:
        offset, signature, tid_offset = self._jumps.rseq() or (None, 0, 0)
        if described is None:
            return
        board = Board(described["shift"])
        if board.strides != described["strides"]:
            raise BoardError(errno.EINVAL, "made for a machine with other processors")
        if not board.take(self._pid, described["vaddr"]):
            self._replace_board(board, described["vaddr"], described["used"])
        self._boards.append(board)
        self._jumps.share(board.literal, described["vaddr"], board.size)
        self._jumps.set_board(
            board.memory, board.strides, board.shift, offset, signature, _has_rdpid(), tid_offset
        )
        self._board = board
        self._jumps.open_gates()

    def _replace_board(self, board: Board, vaddr: int, used: int) -> None:
        """Put a file that we can open in the place of one that we cannot, with the same in it, while nobody counts."""
        number, descriptor = board.make_file(self._pid, self._jump_areas.name_vaddr, self._areas.system_call)
        try:
            self._tracer.stop_world(STOP_MS)
            try:
                for start in range(0, board.size, 1 << board.shift):
                    os.pwrite(descriptor, self._tracer.read(vaddr + start, used), start)
                board.put(number, descriptor, vaddr, self._areas.system_call)
            finally:
                self._tracer.resume_world()
        finally:
            self._areas.system_call("close", number)

    # ---- the end

    def forget(self) -> None:
        """Windows and areas are gone with the program, or given up; the counts stay with the sites."""
        self._jumps.forget()
        self._jump_areas.forget()
        for board in self._boards:
            board.close()
        self._boards.clear()
        self._board = None
        self._why_no_board = None

    @property
    def used(self) -> bool:
        """Whether anything of it is in the target."""
        return self._board is not None

    def describe(self, number: int) -> tuple[int, int, int, int] | None:
        """(address of the window, its bytes, address of the trampoline or 0, its bytes) of a site."""
        return self._jumps.describe(number)


def _extent(module: Module) -> tuple[int, int]:
    """What the module's code may name: from its first to its last segment."""
    low = min(segment.vaddr for segment in module.segments)
    high = max(segment.vaddr + segment.memory_size for segment in module.segments)
    return module.address_of(low), module.address_of(high)


def _functions(module: Module, places: Places, indices: list[int]) -> tuple[array[int], array[int], array[int]]:
    """For each place: where its function begins and ends, as far as one is known (else 0), and whether it is called."""
    symbols = module.binary.functions
    starts, ends = symbols.spans[:2]
    cold = symbols.cold
    first, last, called = array("Q"), array("Q"), array("B")
    for index in indices:
        start = places.starts[index]
        vaddr = module.vaddr_of(start) if start else 0
        place = bisect_right(starts, vaddr) - 1
        known = place >= 0 and starts[place] == vaddr
        first.append(start if known else 0)
        last.append(module.address_of(ends[place]) if known else 0)
        called.append(known and vaddr not in cold)
    return first, last, called


def _is_go(module: Module) -> bool:
    """Go's scheduler saves and restores addresses of interrupted code."""
    return module.binary.elf.section(".go.buildinfo") is not None


def _has_rdpid() -> bool:
    with open("/proc/cpuinfo") as file:
        return any(line.startswith("flags") and " rdpid" in line for line in file)
