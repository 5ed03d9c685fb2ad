"""A probe: a user's interest in one or more sites, and what the user can ask about them."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, overload

from uprobe_core.abi import PLAN_ONE_STOP, plan_way
from uprobe_core.patch.sites import site_state
from uprobe_core.x86.relocate import kind_name
from uprobes.hit import Hit
from uprobes.insn import Insn, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from uprobe_core.trace.tracer import Tracer
    from uprobes.board import Tap
    from uprobes.hit import Registers
    from uprobes.place import Place
    from uprobes.refusal import Refusal
    from uprobes.sites import Insertion, SiteTable

    Callback = Callable[[Hit], object]
    Predicate = Callable[[Hit], bool]


class Site:
    """One probed address.

    ``address`` in the process; ``module`` (path), ``symbol``, ``offset`` from the symbol; ``refusal`` says why it could
    not be probed (then it never counts), or is None.
    """

    __slots__ = ("_number", "_table", "_why_not_jump", "address", "module", "offset", "refusal", "symbol")

    def __init__(
        self,
        table: SiteTable,
        place: Place,
        number: int | None,
        refusal: Refusal | None,
        why_not_jump: Refusal | None = None,
    ) -> None:
        """`number` is the engine's; None where it was refused."""
        self._table = table
        self._number = number
        self.address = place.vaddr
        self.module = place.module
        self.symbol = place.symbol
        self.offset = place.offset
        self.refusal = refusal
        self._why_not_jump = why_not_jump

    @property
    def name(self) -> str:
        """``symbol+0x4`` where there is a symbol, else the address."""
        if self.symbol is None:
            return f"{self.address:#x}"
        return f"{self.symbol}+{self.offset:#x}" if self.offset else self.symbol

    @property
    def hits(self) -> int:
        """How often any thread came here since the site was inserted."""
        return 0 if self._number is None else self._table.tracer.hits(self._number)

    @property
    def insn(self) -> Insn:
        """The probed instruction."""
        return decode(self._table.original(self.address, self._number), self.address)

    @property
    def mode(self) -> str | None:
        """``jump`` (no stop), ``trap`` (one stop a hit) or ``step`` (two); None where it was refused."""
        if self._number is None:
            return None
        _, plan, state = self._table.tracer.site(self._number)[:3]
        # A detach takes the window from the site, but not the plan.
        if state & site_state.SITE_JUMP or plan == PLAN_ONE_STOP | plan_way.WAY_JUMP:
            return "jump"
        return "trap" if plan & PLAN_ONE_STOP else "step"

    @property
    def why_not_jump(self) -> Refusal | None:
        """Why mode ``auto`` took stops for it; None where jumps serve it, or where stops were asked for."""
        if self._number is None or self.mode == "jump":
            return None
        return self._why_not_jump or self._table.why_demoted(self._number)

    @property
    def fixup(self) -> str | None:
        """In words: how a hit gets past the instruction."""
        if self._number is None:
            return None
        if self.mode == "jump" and (found := self._table.jumps.describe(self._number)) is not None:
            window, length, trampoline, size = found
            where = f"{length} bytes at {window:#x}"
            return f"jump: {where} run in {size} bytes at {trampoline:#x}" if trampoline else f"jump: {where}"
        return kind_name(int(self._table.tracer.site(self._number)[1]))

    def __repr__(self) -> str:
        """Name, address and what became of it."""
        outcome = f"refused: {self.refusal.name}" if self.refusal else f"{self.mode}, {self.hits} hits"
        return f"<Site {self.name} {self.address:#x} {outcome}>"


class Sites:
    """The sites of a probe, in order of address; made as they are asked for, since there may be a million."""

    __slots__ = ("_numbers", "_places", "_refusals", "_table", "_why_not_jump")

    def __init__(self, table: SiteTable, places: Sequence[Place], insertion: Insertion) -> None:
        """`insertion` is what became of the places."""
        self._table = table
        self._places = places
        self._numbers, self._refusals, self._why_not_jump = insertion

    def __len__(self) -> int:
        """How many, refused ones included."""
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Site: ...
    @overload
    def __getitem__(self, index: slice) -> list[Site]: ...
    def __getitem__(self, index: int | slice) -> Site | list[Site]:
        """One site or a list of some."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        refusal = self._refusals.get(index)
        number = None if refusal else self._numbers[index]
        return Site(self._table, self._places[index], number, refusal, self._why_not_jump.get(index))

    @property
    def places(self) -> Sequence[Place]:
        """Where they are."""
        return self._places

    def by_number(self) -> dict[int, Site]:
        """Those that are not refused, by the engine's number."""
        return {number: self[index] for index, number in enumerate(self._numbers) if index not in self._refusals}

    def __iter__(self) -> Iterator[Site]:
        """All of them."""
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        """How many."""
        return f"<{len(self)} sites, {len(self._refusals)} refused>"


class Probe:
    """Counts the hits of its sites while it is enabled; made by ``Target.probe`` and ``Target.on``."""

    def __init__(
        self,
        table: SiteTable,
        spec: str,
        places: Sequence[Place],
        insertion: Insertion,
        callback: Callback | None = None,
        predicate: Predicate | None = None,
        tap: Tap | None = None,
        *,
        counts: bool = False,
    ) -> None:
        """The sites are inserted; `enable()` arms them. With a predicate only hits for which it holds are called back.

        `tap`: what is done at hits, too; `counts`: that is how this probe counts, not by its sites.
        """
        self.spec = spec
        numbers, refusals, _ = insertion
        self.sites = Sites(table, places, insertion)
        self._callback = callback
        self._predicate = predicate
        self.tap = tap
        """What is done at hits beside counting at the sites."""
        self._counts_by_tap = counts
        self._table = table
        self.numbers = numbers
        if refusals:
            self.numbers = array("I", (number for index, number in enumerate(numbers) if index not in refusals))
        """The engine's numbers of the sites that are not refused."""
        self.generation = table.generation
        """Of the table when the sites were inserted."""
        self._enabled = False
        self.removed = False
        """Whether it was done away with."""
        self._counted = 0
        self._since = 0
        self._index = {number: index for index, number in enumerate(numbers)} if self.wants_stops else {}

    @property
    def hits(self) -> int:
        """How often its sites were hit while it was enabled, summed over all sites and threads."""
        if self.tap is not None and self._counts_by_tap:
            return self.tap.board.sum(0)
        if not self._enabled or self._predicate is not None:
            return self._counted
        return self._counted + self._table.tracer.hits_sum(self.numbers) - self._since

    def counted_at(self, numbers: Iterable[int]) -> int:
        """What has to be subtracted from the counts of these of its sites, while it is enabled, to get its own.

        Exact while they count: they are not read.
        """
        rest = array("I", sorted(set(self.numbers).difference(numbers)))
        return self._since - self._counted - self._table.tracer.hits_sum(rest)

    @property
    def may_stay(self) -> bool:
        """Whether it counts, and needs nobody to do so."""
        return self._enabled and self._callback is None and self.tap is None

    @property
    def lost(self) -> int:
        """Hits that happened and could not be counted or reported. Counting in ``trap`` and ``step`` loses none."""
        return 0

    @property
    def enabled(self) -> bool:
        """Whether it counts."""
        return self._enabled

    def enable(self, counted: int | None = None) -> None:
        """Write the patches; hits count from now on. All threads stop for a moment where jumps serve sites.

        counted: all that its sites have counted so far, but for so many, counts too.
        """
        if not self._enabled:
            # Before arming: a hit between the two would be missed otherwise.
            self._since = self._table.tracer.hits_sum(self.numbers) if counted is None else counted
            self._table.arm(self)
            self._enabled = True

    def disable(self) -> None:
        """Take the patches back, but for sites that another probe has too. The count stays."""
        if self._enabled:
            self._table.disarm(self)
            self._counted = self.hits
            self._enabled = False

    @property
    def wants_stops(self) -> bool:
        """Whether a hit has to be looked at while its thread is stopped."""
        return self._callback is not None

    def serve(self, tracer: Tracer, number: int, tid: int, registers: Registers) -> None:
        """In the owner thread: a thread stands at the site that the engine knows as `number`."""
        hit = Hit(tracer, self, self.sites[self._index[number]], tid, registers)
        if self._predicate is not None:
            if not self._predicate(hit):
                return
            self._counted += 1
        if self._callback is not None:
            self._callback(hit)

    def remove(self) -> None:
        """Disable it and forget its sites."""
        self.disable()
        if not self.removed:
            self.removed = True
            self._table.forget(self)

    def __repr__(self) -> str:
        """Specification, number of sites and hits."""
        return f"<Probe {self.spec} {len(self.sites)} sites, {self.hits} hits>"
