"""The sites of one target: inserting places as sites, arming and disarming them, and whose they are.

Everything that touches the target is handed to the owner thread in batches.
"""

from __future__ import annotations

import contextlib
import os
from array import array
from typing import TYPE_CHECKING, NamedTuple

from uprobe_core.abi import SLOT_SIZE, probe_mode, rip_strategy
from uprobe_core.trace.recorder import Recorder
from uprobe_core.trace.safety import keep_journal
from uprobes.areas import REACH, Areas
from uprobes.board import Tap
from uprobes.errors import NoRoom
from uprobes.guard import Guard, blocks_traps
from uprobes.journal import Journal, create, told_as_journal
from uprobes.process import has_shadow_stack, stack_vaddr
from uprobes.refusal import Refusal
from uprobes.soundness import sound_places

if TYPE_CHECKING:
    from uprobe_core.x86.hitplan import HitPlan
    from uprobes.board import Board
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
        self._guard = Guard(owner.tracer, pid, self.areas)
        self._journal: Journal | None = None
        self._owner = owner
        self._recorder = Recorder(owner.tracer)
        self._pid = pid
        self._watchers: dict[int, list[Probe]] = {}
        self._dropped = 0
        self.generation = 0
        """Counts the programs that the target has executed: sites belong to one of them."""

    # ---- inserting

    def insert(self, places: Places, mode: str, rip: str) -> Insertion:
        """Insert sites at `places`; none is armed yet. NoRoom when there are no slots."""
        return self._owner.call(lambda: self._insert(places, MODES[mode], STRATEGIES[rip]))

    def _insert(self, places: Places, mode: int, strategy: int) -> Insertion:
        numbers = array("I", bytes(4 * len(places)))
        refusals: dict[int, Refusal] = {}
        if mode == probe_mode.MODE_AUTO and blocks_traps(self._pid):
            return Insertion(numbers, dict.fromkeys(range(len(places)), Refusal.SIGTRAP) | places.refusals)
        self._keep_journal()
        with told_as_journal(self._journal):
            # A stepped site takes up to four entries: itself, and three for threads in its slot.
            self._guard.make_room(len(places) * (4 if mode == probe_mode.MODE_STEP else 1))
        self.tracer.keep_returns(has_shadow_stack(self._pid))
        for stretch in sound_places(self._pid, places, refusals):
            with told_as_journal(self._journal):
                _Batch(self, stretch, mode, strategy).insert(places, numbers, refusals)
        return Insertion(numbers, refusals)

    # ---- what is done at hits

    def tap(self, plan: HitPlan, board: Board) -> Tap:
        """Something that probes can have done at their hits.

        Whoever serves a site in the target itself writes code by `plan` (with the site's number put in) for `board`;
        all other sites are tied to it in the tracer. Both ways fill the same board.
        """
        return Tap(plan, board, self._owner.call(lambda: self._recorder.add(plan, board.memory, board.strides)))

    @property
    def over(self) -> bool:
        """Whether the target ended or was detached: there will be no more hits."""
        return self._owner.ended.is_set()

    def _keep_journal(self) -> None:
        """Before anything is changed in the target. AlreadyTraced, JournalError."""
        if self._journal is None:
            journal = create(self._pid)
            journal.records.stack_vaddr = stack_vaddr(self._pid)
            keep_journal(self.tracer, journal.records, os.fsencode(journal.path))
            self.areas.keep_journal(journal.records)
            self._journal = journal

    @property
    def journal(self) -> Journal | None:
        """What was changed in the target; None: nothing yet."""
        return self._journal

    @property
    def guarded(self) -> bool:
        """Whether the target would survive the loss of its tracer."""
        return self._guard.vaddr is not None

    def restore_areas(self) -> None:
        """In the owner thread: make the areas again that the target has unmapped."""
        self.areas.restore()
        self._guard.restore()

    # ---- arming

    def arm(self, probe: Probe) -> None:
        """Patch the probe's sites that are not armed yet."""

        def work() -> None:
            if probe.wants_stops:
                for number in probe.numbers:
                    self._watchers.setdefault(number, []).append(probe)
                    self.tracer.watch(number, True)
            if probe.tap is not None:
                self._recorder.tie(probe.numbers, probe.tap.number)
            self.tracer.arm(probe.numbers)

        self._owner.call(work)

    def disarm(self, probe: Probe) -> None:
        """Take the patches back of sites that no other enabled probe has."""

        def work() -> None:
            if probe.generation != self.generation:
                return
            self.tracer.disarm(probe.numbers)
            if probe.tap is not None:
                self._recorder.untie(probe.numbers, probe.tap.number)
            if probe.wants_stops:
                for number in probe.numbers:
                    self._watchers[number].remove(probe)
                    self.tracer.watch(number, bool(self._watchers[number]))

        self._owner.call(work)

    def adopt(self, probe: Probe) -> None:
        """A new probe has these sites."""
        self._owner.call(lambda: self.tracer.adopt(probe.numbers))

    def forget(self, probe: Probe) -> None:
        """A disabled probe is done with its sites; those that nobody has are dropped."""

        def work() -> None:
            if probe.generation != self.generation:
                return
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
        self.areas.forget()
        self._guard.forget()
        if self._journal is not None:
            self._journal.records.next_generation(stack_vaddr(self._pid))

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
        self.close_journal()

    def close_journal(self) -> None:
        """Nothing of ours is left in the target, or the target is gone."""
        if self._journal is not None:
            self._journal.remove()


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
            made, waiting = (array("I", bytes(4 * len(vaddrs))) for _ in range(2))
            refused, without, needs = self._tracer.insert(
                vaddrs, made, waiting, self._mode, self._strategy, reach, image, mapping.start
            )
            if isinstance(indices, range):
                numbers[indices.start : indices.stop] = made
            else:
                for index, number in zip(indices, made, strict=True):
                    numbers[index] = number
            refusals.update((indices[position], Refusal(refusal)) for position, refusal in refused)
            if without and not self._make_room(Needs(*needs)):
                # Without near slots first; then without any, which leaves what can be emulated.
                if reach == REACH_NONE:
                    raise NoRoom(SLOT_SIZE)
                reach -= 1
            if without < len(indices):
                indices = list(map(indices.__getitem__, waiting[:without]))

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
