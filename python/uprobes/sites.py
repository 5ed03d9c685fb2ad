"""The sites of one target: inserting places as sites, arming and disarming them, and whose they are.

Everything that touches the target is handed to the owner thread in batches.
"""

from __future__ import annotations

import contextlib
from array import array
from typing import TYPE_CHECKING, NamedTuple

from uprobe_core.abi import SLOT_SIZE, probe_mode, rip_strategy
from uprobes.areas import REACH, Areas
from uprobes.errors import NoRoom
from uprobes.refusal import Refusal
from uprobes.soundness import sound_places

if TYPE_CHECKING:
    from collections.abc import Callable

    from uprobes.owner import Owner
    from uprobes.places import Places
    from uprobes.probe import Probe
    from uprobes.soundness import Stretch

MODES = {"auto": probe_mode.MODE_AUTO, "step": probe_mode.MODE_STEP, "trap": probe_mode.MODE_TRAP}
STRATEGIES = {
    "auto": rip_strategy.RIP_AUTO,
    "scratch": rip_strategy.RIP_SCRATCH,
    "segment": rip_strategy.RIP_SEGMENT,
    "displacement": rip_strategy.RIP_DISPLACEMENT,
}
# What slots may be had, as enum plan_reach of the core counts: near ones too, any but near, none.
REACH_NEAR = 1
REACH_NONE = -1


class Insertion(NamedTuple):
    """What became of places: the engine's site numbers, and why some have none (by index)."""

    numbers: array[int]
    refusals: dict[int, Refusal]


class Needs(NamedTuple):
    """Slots that were missing: how many anywhere; how many near, and the lowest and highest address that one of these
    has to reach; how many below their sites, and the lowest of the sites."""

    anywhere: int
    near: int
    lowest: int
    highest: int
    below: int
    below_vaddr: int


class SiteTable:
    """All sites of a target. Counts of a site are shared by the probes that have it."""

    def __init__(self, owner: Owner, pid: int, *, seal: bool) -> None:
        """Nothing is inserted yet."""
        self.tracer = owner.tracer
        self.areas = Areas(owner.tracer, pid, seal=seal)
        self._owner = owner
        self._pid = pid
        self._watchers: dict[int, list[Probe]] = {}
        self._dropped = 0
        self.probes: list[Probe] = []
        """Those that have sites, in the order in which they were made; used in the owner thread."""
        self.generation = 0
        """Counts the programs that the target has executed: sites belong to one of them."""

    @classmethod
    def of_child(cls, parent: SiteTable, owner: Owner, pid: int) -> SiteTable:
        """In the owner thread: the table of a process that is a copy of the parent's. `owner.tracer` has the sites."""
        table = cls(owner, pid, seal=True)
        table.areas.inherit(parent.areas)
        table._dropped = parent._dropped
        table.probes = [probe.copy(table) for probe in parent.probes]
        return table

    def call(self, work: Callable[[], None]) -> None:
        """Run `work` in the owner thread. TargetGone."""
        self._owner.call(work)

    # ---- inserting

    def insert(self, places: Places, mode: str, rip: str) -> Insertion:
        """Insert sites at `places`; none is armed yet. NoRoom when there are no slots."""
        return self._owner.call(lambda: self._insert(places, MODES[mode], STRATEGIES[rip]))

    def _insert(self, places: Places, mode: int, strategy: int) -> Insertion:
        numbers = array("I", bytes(4 * len(places)))
        refusals: dict[int, Refusal] = {}
        for stretch in sound_places(self._pid, places, refusals):
            _Batch(self, stretch, mode, strategy).insert(places, numbers, refusals)
        return Insertion(numbers, refusals)

    # ---- arming

    def arm(self, probe: Probe) -> None:
        """Patch the probe's sites that are not armed yet."""

        def work() -> None:
            self.watch(probe)
            self.tracer.arm(probe.numbers)

        self._owner.call(work)

    def watch(self, probe: Probe) -> None:
        """In the owner thread: hits of the probe's sites go to its callback, if it has one."""
        if probe.wants_stops:
            for number in probe.numbers:
                self._watchers.setdefault(number, []).append(probe)
                self.tracer.watch(number, True)

    def disarm(self, probe: Probe) -> None:
        """Take the patches back of sites that no other enabled probe has."""

        def work() -> None:
            if probe.generation != self.generation:
                return
            self.tracer.disarm(probe.numbers)
            if probe.wants_stops:
                for number in probe.numbers:
                    self._watchers[number].remove(probe)
                    self.tracer.watch(number, bool(self._watchers[number]))

        self._owner.call(work)

    def adopt(self, probe: Probe) -> None:
        """A new probe has these sites."""

        def work() -> None:
            self.tracer.adopt(probe.numbers)
            self.probes.append(probe)

        self._owner.call(work)

    def forget(self, probe: Probe) -> None:
        """A disabled probe is done with its sites; those that nobody has are dropped."""

        def work() -> None:
            if probe in self.probes:
                self.probes.remove(probe)
                self._dropped += self.tracer.release(probe.numbers)

        self._owner.call(work)

    def reclaim(self) -> int:
        """In the owner thread: free the slots of sites that were forgotten; how many."""
        if not self._dropped:
            return 0
        self._dropped = 0
        return int(self.tracer.reclaim())

    def watchers(self, number: int) -> list[Probe]:
        """The enabled probes whose callbacks want the hits of a site."""
        return list(self._watchers.get(number, ()))

    def forget_all(self) -> None:
        """In the owner thread, after an exec: the sites and areas went with the old program."""
        self.generation += 1
        self._watchers.clear()
        self.probes.clear()
        self.areas.forget()

    def original(self, vaddr: int, number: int | None) -> bytes:
        """The bytes of the instruction at `vaddr` as they are without a patch."""
        if number is None:
            return bytes(self.tracer.read_some(vaddr, 15))
        return bytes(self.tracer.site(number)[5])

    def leave(self) -> None:
        """In the owner thread: take everything back and let go of the target."""
        unmap = 0
        # A target that cannot be asked any more keeps the areas; nothing runs there.
        with contextlib.suppress(OSError):
            unmap = self.areas.unmap_gadget
        self.tracer.leave(unmap)


class _Batch:
    """The insertion of places of one mapping: as many rounds as new slot areas are needed."""

    def __init__(self, table: SiteTable, stretch: Stretch, mode: int, strategy: int) -> None:
        self._table = table
        self._tracer = table.tracer
        self._areas = table.areas
        self._stretch = stretch
        self._mode = mode
        self._strategy = strategy

    def insert(self, places: Places, numbers: array[int], refusals: dict[int, Refusal]) -> None:
        """Insert the places; their engine numbers, or refusals, go to where the others are."""
        mapping, image, indices = self._stretch
        reach = REACH_NEAR
        while indices:
            if isinstance(indices, range):
                vaddrs = places.vaddrs[indices.start : indices.stop]
            else:
                vaddrs = array("Q", map(places.vaddrs.__getitem__, indices))
            made = array("I", bytes(4 * len(vaddrs)))
            refused, waiting, needs = self._tracer.insert(
                vaddrs, made, self._mode, self._strategy, reach, image, mapping.start
            )
            if isinstance(indices, range):
                numbers[indices.start : indices.stop] = made
            else:
                for index, number in zip(indices, made, strict=True):
                    numbers[index] = number
            refusals.update((indices[position], Refusal(refusal)) for position, refusal in refused)
            if waiting and not self._make_room(Needs(*needs)):
                # Without near slots first; then without any, which leaves what can be emulated.
                if reach == REACH_NONE:
                    raise NoRoom(SLOT_SIZE)
                reach -= 1
            if len(waiting) < len(indices):
                indices = list(map(indices.__getitem__, waiting))

    def _make_room(self, needs: Needs) -> bool:
        """Free or make slots for those that were missing. False: there is no room, plan with less."""
        if self._table.reclaim():
            return True
        try:
            if needs.near:
                self._areas.make_near(max(0, needs.highest - REACH), needs.lowest + REACH, needs.near)
            if needs.below:
                self._areas.make_near(0, needs.below_vaddr, needs.below)
            if needs.anywhere:
                self._areas.make_anywhere(needs.anywhere)
        except NoRoom:
            return False
        return True
