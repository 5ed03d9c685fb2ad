"""How long functions take."""

from __future__ import annotations

import threading
from array import array
from typing import TYPE_CHECKING

from uprobe_core.abi import hit_field_kind
from uprobe_core.linux.clock import Clock
from uprobe_core.trace.pairing import Pairing
from uprobe_core.trace.ring import RingReader
from uprobe_core.x86.hitplan import HitPlan
from uprobes.batch import Batch
from uprobes.board import Board
from uprobes.drain import Drain
from uprobes.errors import FieldError
from uprobes.histogram import Histogram
from uprobes.operand import GENERAL, OTHER
from uprobes.recording import RING_SHIFT, ROOM, ring_order

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from uprobes.predicate import Predicate
    from uprobes.probe import Probe, Site

_NO_ROLE = 0xFFFFFFFF
_EXIT = 1


class Latency:
    """Times from functions' entries to their exits; made by ``Target.latency``.

    Each exit (a return, or a jump to another function in tail position) is paired with the entry that had the same
    frame: recursion, longjmp, exceptions and threads do not mix calls up. Calls that were under way when it was enabled
    are not counted, nor are those that never end.
    """

    def __init__(self, board: Board, order: int, fields: int, judge: HitPlan) -> None:
        """`judge` has the predicate, which is applied to entries as they are read."""
        self.entries: Probe
        self.exits: Probe
        self._reader = RingReader(board.memory, board.strides, board.shift, 0, order, fields, Clock())
        self._judge = judge
        self._names: list[str] = []
        self._pairing: Pairing
        self._seen_lost = 0
        self._lock = threading.Lock()
        nowhere: dict[int, Site] = {}
        self._batch = Batch(["rsp", *["rax"] * (fields - 1)], ROOM, nowhere.__getitem__)
        self._drain: Drain

    def start(self, entries: Probe, exits: Probe, ended: Callable[[], bool]) -> None:
        """Both probes write to the rings from now on; `ended` tells when no more will come."""
        self.entries, self.exits = entries, exits
        numbers: dict[tuple[str | None, str | None], int] = {}
        roles = array("I", [_NO_ROLE]) * (1 + max([0, *entries.numbers, *exits.numbers]))
        for number, site in entries.sites.by_number().items():
            roles[number] = numbers.setdefault(_function(site), len(numbers)) << 1
        for number, site in exits.sites.by_number().items():
            if _function(site) in numbers and roles[number] == _NO_ROLE:
                roles[number] = numbers[_function(site)] << 1 | _EXIT
        self._names = [symbol or "" for _, symbol in numbers]
        self._pairing = Pairing(self._judge, roles, len(numbers))
        self._drain = Drain(self._update, ended)

    @property
    def histogram(self) -> Histogram:
        """The times of all functions together, until a millisecond ago (all of them, once it is disabled)."""
        return sum(self.functions.values(), Histogram())

    @property
    def functions(self) -> dict[str, Histogram]:
        """The times of each function that was called, by name."""
        self._settle()
        found: dict[str, Histogram] = {}
        with self._lock:
            for index, name in enumerate(self._names):
                one = Histogram(*self._pairing.times(index))
                if one.count:
                    found[name] = found.get(name, Histogram()) + one
        return found

    @property
    def hits(self) -> int:
        """Calls that were timed."""
        return self.histogram.count

    @property
    def lost(self) -> int:
        """Entries and exits that found no room in the rings."""
        return self._reader.lost

    @property
    def unpaired(self) -> int:
        """Exits of calls that had begun before, or whose entry was lost."""
        return self._pairing.unpaired

    @property
    def unfinished(self) -> int:
        """Calls that were left by longjmp or an exception, or have not ended yet."""
        return self._pairing.abandoned + self._pairing.open

    def percentile(self, percent: float) -> int:
        """Nanoseconds that `percent` of the calls did not exceed."""
        return self.histogram.percentile(percent)

    def enable(self) -> None:
        """Time calls that begin from now on."""
        self.exits.enable()
        self.entries.enable()

    def disable(self) -> None:
        """Time no more; calls that are under way are not counted."""
        self.entries.disable()
        self.exits.disable()
        self._settle()
        with self._lock:
            self._pairing.forget()

    def close(self) -> None:
        """Disable, and forget the sites; the times stay."""
        self.disable()
        self.entries.remove()
        self.exits.remove()
        self._drain.stop()

    def __repr__(self) -> str:
        """Specification and times."""
        return f"<Latency {self.entries.spec} {self.histogram!r}>"

    def _settle(self) -> None:
        while self._update(not self.exits.enabled):
            pass

    def _update(self, everything: bool) -> bool:
        """Pair one batch; whether there was one."""
        with self._lock:
            found = self._batch.fill(self._reader, everything=everything)
            if found:
                self._pairing.feed(*self._batch.raw())
            lost = self._reader.lost
            if lost != self._seen_lost:
                self._seen_lost = lost
                self._pairing.forget()
            return found > 0


def _function(site: Site) -> tuple[str | None, str | None]:
    return site.module, site.symbol


def make_latency(predicate: Predicate | None) -> tuple[Latency, HitPlan, Board]:
    """A latency, the plan of its records and their board."""
    if predicate is not None and (predicate.wants_stack or any(number >= OTHER for number in predicate.registers)):
        hint = "use general registers and arg0 to arg5"
        raise FieldError("when", "a latency's condition is judged by its reader", hint=hint)
    registers = predicate.registers if predicate else []
    fields: Sequence[tuple[int, int]] = [
        (hit_field_kind.FIELD_REGISTER, number) for number in (GENERAL.index("rsp"), *registers)
    ]
    order = ring_order(len(fields))
    board = Board(RING_SHIFT)
    plan = HitPlan(shift=board.shift, order=order, fields=fields)
    judge = HitPlan(shift=board.shift, order=order, fields=fields, ops=predicate.ops if predicate else ())
    return Latency(board, order, len(fields), judge), plan, board
