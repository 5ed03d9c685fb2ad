"""Pending probes: places that need not be there yet, as in a library that is loaded later."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from uprobes.errors import AmbiguousSymbol, ModuleNotFound, ProbeRefused, SymbolNotFound
from uprobes.resolve import is_loader

if TYPE_CHECKING:
    from collections.abc import Callable

    from uprobes.hit import Hit
    from uprobes.place import Place
    from uprobes.probe import Probe, Site
    from uprobes.spec import ProbeSpec
    from uprobes.target import Target

LINKER_NOTICE = "_dl_debug_state"
"""The function that the dynamic linker calls for debuggers when it has loaded or unloaded something (SysV ABI,
r_brk): before constructors run, and after the text is mapped."""


class PendingProbe:
    """A probe whose places come and go with the libraries that are loaded; made by ``Target.probe(pending=True)``.

    It has a ``Probe`` for every time that places of its specifications were found (``parts``), counts what all of them
    count, and outlives an exec.
    """

    def __init__(
        self, wanted: list[str | ProbeSpec | int], insert: Callable[[Target, list[Place]], Probe]
    ) -> None:
        """`insert` makes a probe of places of a target."""
        self.wanted = wanted
        self.parts: list[Probe] = []
        self._insert = insert
        self._known: set[int] = set()
        self._enabled = True

    @property
    def spec(self) -> str:
        """How it is called."""
        return ", ".join(hex(one) if isinstance(one, int) else str(one) for one in self.wanted)

    @property
    def hits(self) -> int:
        """How often its sites were hit while it was enabled."""
        return sum(part.hits for part in self.parts)

    @property
    def lost(self) -> int:
        """Hits that happened and could not be counted or reported."""
        return sum(part.lost for part in self.parts)

    @property
    def throttled(self) -> float:
        """For how many seconds sites of it were switched off because hits took more than the target's budget."""
        return sum(part.throttled for part in self.parts)

    @property
    def sites(self) -> list[Site]:
        """All sites that there ever were."""
        return [site for part in self.parts for site in part.sites]

    @property
    def enabled(self) -> bool:
        """Whether it counts, and takes up new places."""
        return self._enabled

    def enable(self) -> None:
        """Write the patches; hits count from now on."""
        self._enabled = True
        for part in self.parts:
            part.enable()

    def disable(self) -> None:
        """Take the patches back. The count stays."""
        self._enabled = False
        for part in self.parts:
            part.disable()

    def remove(self) -> None:
        """Disable it and forget its sites."""
        self._enabled = False
        for part in self.parts:
            part.remove()

    def look(self, target: Target) -> None:
        """Insert at the places of the specifications that are in the target by now and were not before."""
        if not self._enabled:
            return
        places: list[Place] = []
        for one in self.wanted:
            # Two libraries may define what one did until now: those that are known are kept.
            with contextlib.suppress(SymbolNotFound, ModuleNotFound, AmbiguousSymbol):
                places.extend(place for place in target.places(one) if place.vaddr not in self._known)
        if places:
            self._known.update(place.vaddr for place in places)
            with contextlib.suppress(ProbeRefused):
                self.parts.append(self._insert(target, places))

    def forget(self, low: int, high: int) -> None:
        """The memory of [low, high) is gone; the same places may come again."""
        self._known = {vaddr for vaddr in self._known if not low <= vaddr < high}

    def copy(self, probes: list[Probe]) -> PendingProbe:
        """The same in a child that is a copy of the process, which has `probes`."""
        mine = PendingProbe(self.wanted, self._insert)
        mine.parts = [probe for probe in probes if any(probe.original is part for part in self.parts)]
        mine._known = set(self._known)
        mine._enabled = self._enabled
        return mine

    def __repr__(self) -> str:
        """Specification, number of sites and hits."""
        return f"<PendingProbe {self.spec} {len(self.sites)} sites, {self.hits} hits>"


def libraries_changed(hit: Hit) -> None:
    """The callback at LINKER_NOTICE: the target that was hit, which may be a followed child, looks again."""
    hit.probe.table.on_libraries()


class PendingProbes:
    """The pending probes of one target, and the probe of ours at the dynamic linker that tells of libraries."""

    def __init__(self, target: Target) -> None:
        """None yet."""
        self._target = target
        self._probes: list[PendingProbe] = []
        self._notice: Probe | None = None

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._probes)

    def add(self, wanted: list[str | ProbeSpec | int], insert: Callable[[Target, list[Place]], Probe]) -> PendingProbe:
        """A new one, which has what is there already. `insert` makes a probe of places of a target."""
        probe = PendingProbe(wanted, insert)
        self._probes.append(probe)
        self.look()
        return probe

    def look(self) -> None:
        """Something may have been loaded, or another program runs: insert what is there by now."""
        if not self._probes:
            return
        if self._notice is None or not self._target.sites_are_current(self._notice):
            self._notice = self._watch_linker()
        for probe in self._probes:
            probe.look(self._target)

    def _watch_linker(self) -> Probe | None:
        """None for a program that loads nothing: it is linked statically."""
        loader = [module for module in self._target.modules if is_loader(module)]
        if not loader:
            return None
        spec = f"{loader[0].path}:{LINKER_NOTICE}"
        with contextlib.suppress(SymbolNotFound, ModuleNotFound, ProbeRefused):
            return self._target.on(spec)(libraries_changed).probe  # type: ignore[attr-defined, no-any-return]
        return None

    def forget(self, low: int, high: int) -> None:
        """The memory of [low, high) is gone."""
        for probe in self._probes:
            probe.forget(low, high)

    def forget_all(self) -> None:
        """Another program runs."""
        self.forget(0, 1 << 64)

    def inherit(self, parent: PendingProbes, probes: list[Probe]) -> None:
        """The target is a child of another, with `probes` that are copies of the parent's."""
        self._probes = [probe.copy(probes) for probe in parent._probes]
        self._notice = next((probe for probe in probes if probe.original is parent._notice), None)

    @property
    def hidden(self) -> Probe | None:
        """The probe that is ours and not the user's."""
        return self._notice

    @property
    def all(self) -> list[PendingProbe]:
        """In the order in which they were made."""
        return list(self._probes)
