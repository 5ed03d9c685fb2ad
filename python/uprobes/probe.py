"""A probe: a user's interest in one or more sites, and what the user can ask about them."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, overload

from uprobe_core.abi import PLAN_ONE_STOP
from uprobe_core.x86.relocate import kind_name
from uprobes.hit import Hit
from uprobes.insn import Insn, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from uprobe_core.trace.tracer import Tracer
    from uprobes.hit import Registers
    from uprobes.place import Place
    from uprobes.refusal import Refusal
    from uprobes.sites import SiteTable

    Callback = Callable[[Hit], object]
    Predicate = Callable[[Hit], bool]


class Site:
    """One probed address.

    ``address`` in the process; ``module`` (path), ``symbol``, ``offset`` from the symbol; ``refusal`` says why it could
    not be probed (then it never counts), or is None.
    """

    __slots__ = ("_number", "_table", "address", "module", "offset", "refusal", "symbol")

    def __init__(self, table: SiteTable, place: Place, number: int | None, refusal: Refusal | None) -> None:
        """`number` is the engine's; None where it was refused."""
        self._table = table
        self._number = number
        self.address = place.vaddr
        self.module = place.module
        self.symbol = place.symbol
        self.offset = place.offset
        self.refusal = refusal

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
        """``trap`` (one stop a hit) or ``step`` (two); None where it was refused."""
        plan = self._plan
        if plan is None:
            return None
        return "trap" if plan & PLAN_ONE_STOP else "step"

    @property
    def fixup(self) -> str | None:
        """In words: how a hit gets past the instruction."""
        plan = self._plan
        return None if plan is None else kind_name(plan)

    @property
    def _plan(self) -> int | None:
        return None if self._number is None else int(self._table.tracer.site(self._number)[1])

    def __repr__(self) -> str:
        """Name, address and what became of it."""
        outcome = f"refused: {self.refusal.name}" if self.refusal else f"{self.mode}, {self.hits} hits"
        return f"<Site {self.name} {self.address:#x} {outcome}>"


class Sites:
    """The sites of a probe, in order of address; made as they are asked for, since there may be a million."""

    __slots__ = ("_numbers", "_places", "_refusals", "_table")

    def __init__(
        self, table: SiteTable, places: Sequence[Place], numbers: array[int], refusals: dict[int, Refusal]
    ) -> None:
        """`numbers` are the engine's, one a place; `refusals` by index of those that have none."""
        self._table = table
        self._places = places
        self._numbers = numbers
        self._refusals = refusals

    @property
    def parts(self) -> tuple[Sequence[Place], array[int], dict[int, Refusal]]:
        """What they were made of."""
        return self._places, self._numbers, self._refusals

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
        return Site(self._table, self._places[index], number, refusal)

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
        numbers: array[int],
        refusals: dict[int, Refusal],
        callback: Callback | None,
        predicate: Predicate | None,
    ) -> None:
        """The sites are inserted; `enable()` arms them. With a predicate only hits for which it holds count."""
        self.spec = spec
        self.sites = Sites(table, places, numbers, refusals)
        self._callback = callback
        self._predicate = predicate
        self._table = table
        self.numbers = numbers
        if refusals:
            self.numbers = array("I", (number for index, number in enumerate(numbers) if index not in refusals))
        """The engine's numbers of the sites that are not refused."""
        self.generation = table.generation
        """Of the table when the sites were inserted."""
        self._enabled = False
        self._counted = 0
        self._since = 0
        self._index = {number: index for index, number in enumerate(numbers)} if self.wants_stops else {}

    @property
    def hits(self) -> int:
        """How often its sites were hit while it was enabled, summed over all sites and threads."""
        if not self._enabled or self._predicate is not None:
            return self._counted
        return self._counted + self._table.tracer.hits_sum(self.numbers) - self._since

    @property
    def lost(self) -> int:
        """Hits that happened and could not be counted or reported. Counting in ``trap`` and ``step`` loses none."""
        return 0

    @property
    def enabled(self) -> bool:
        """Whether it counts."""
        return self._enabled

    def enable(self) -> None:
        """Write the patches; hits count from now on. No thread is stopped for it."""
        if not self._enabled:
            self._table.call(self._enable)

    def _enable(self) -> None:
        # Before arming: a hit between the two would be missed otherwise.
        self._since = self._table.tracer.hits_sum(self.numbers)
        self._table.arm(self)
        self._enabled = True

    def disable(self) -> None:
        """Take the patches back, but for sites that another probe has too. The count stays."""
        if self._enabled:
            self._table.call(self._disable)

    def _disable(self) -> None:
        self._table.disarm(self)
        self._counted = self.hits
        self._enabled = False

    def copy(self, table: SiteTable) -> Probe:
        """In the owner thread: the same probe of a child, whose sites have the same numbers; it counts from 0."""
        places, numbers, refusals = self.sites.parts
        other = Probe(table, self.spec, places, numbers, refusals, self._callback, self._predicate)
        other._enabled = self._enabled
        if self._enabled:
            table.watch(other)
        return other

    @property
    def wants_stops(self) -> bool:
        """Whether a hit has to be looked at while its thread is stopped."""
        return self._callback is not None or self._predicate is not None

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
        self._table.forget(self)

    def __repr__(self) -> str:
        """Specification, number of sites and hits."""
        return f"<Probe {self.spec} {len(self.sites)} sites, {self.hits} hits>"
