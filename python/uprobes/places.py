"""Many places of one process at once: their addresses in flat arrays, their descriptions made when asked for."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import chain, islice
from operator import eq
from typing import TYPE_CHECKING, overload

from uprobe_core.x86.boundaries import find_starts
from uprobes.resolve import describe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uprobes.module import Module
    from uprobes.place import Place
    from uprobes.refusal import Refusal


class Places(Sequence["Place"]):
    """Places by rising address, each once.

    `vaddrs` are their addresses; `starts`, one each, where decoding may begin (0: nothing vouches for a start);
    `refusals`, by index, are of those that their files forbid.
    """

    def __init__(self, found: Iterable[Place], addresses: Iterable[int], modules: Sequence[Module]) -> None:
        """`found` are described already; `addresses` are not, and `modules` know about them."""
        self._modules = modules
        self._described = {place.vaddr: place for place in found}
        self.vaddrs = array("Q", sorted(chain(self._described, addresses)))
        if any(map(eq, self.vaddrs, islice(self.vaddrs, 1, None))):
            self.vaddrs = array("Q", dict.fromkeys(self.vaddrs))
        self.starts = array("Q", bytes(8 * len(self.vaddrs)))
        self.refusals: dict[int, Refusal] = {}
        for module in modules:
            self._find_starts(module)
        for vaddr, place in self._described.items():
            self.starts[bisect_left(self.vaddrs, vaddr)] = place.start_vaddr or 0

    def _find_starts(self, module: Module) -> None:
        """Fill in the starts of the addresses that lie in a module."""
        for mapping in module.mappings:
            first, last = bisect_left(self.vaddrs, mapping.start), bisect_left(self.vaddrs, mapping.end)
            if last - first > len(self._described) or any(
                vaddr not in self._described for vaddr in self.vaddrs[first:last]
            ):
                self._search(module, first, last)
            if first < last:
                self._forbid(module)
        module.close()

    def _forbid(self, module: Module) -> None:
        for start, end, refusal in module.binary.forbidden:
            first = bisect_left(self.vaddrs, module.address_of(start))
            last = bisect_left(self.vaddrs, module.address_of(end))
            self.refusals.update(dict.fromkeys(range(first, last), refusal))

    def _search(self, module: Module, first: int, last: int) -> None:
        functions = module.binary.functions
        found = array("Q", bytes(8 * (last - first)))
        known = find_starts(self.vaddrs[first:last], module.bias, *functions.spans, found)
        self.starts[first:last] = found
        if known == last - first:
            return
        # Where no symbol tells: unwind entries, symbols without a size, the entry point.
        while first < last:
            end = first + 1
            if not self.starts[first] and (
                extent := functions.extent_at(module.vaddr_of(self.vaddrs[first]))
            ) is not None:
                end = bisect_left(self.vaddrs, module.address_of(extent.end), first, last)
                self.starts[first:end] = array("Q", (module.address_of(extent.start),)) * (end - first)
            first = end

    def __len__(self) -> int:
        """How many."""
        return len(self.vaddrs)

    @overload
    def __getitem__(self, index: int) -> Place: ...
    @overload
    def __getitem__(self, index: slice) -> list[Place]: ...
    def __getitem__(self, index: int | slice) -> Place | list[Place]:
        """One place, described, or a list of some."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        vaddr = self.vaddrs[index]
        if vaddr not in self._described:
            self._described[vaddr] = describe(vaddr, self._modules)
        return self._described[vaddr]
