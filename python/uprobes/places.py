"""Many places of one process at once: their addresses in flat arrays, their descriptions made when asked for."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

from uprobes.resolve import describe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uprobes.module import Module
    from uprobes.place import Place
    from uprobes.symbols.functions import Extent, FunctionIndex


class Places(Sequence["Place"]):
    """Places by rising address, each once.

    `vaddrs` are their addresses; `starts`, one each, where decoding may begin (0: nothing vouches for a start).
    """

    def __init__(self, found: Iterable[Place], addresses: Iterable[int], modules: Sequence[Module]) -> None:
        """`found` are described already; `addresses` are not, and `modules` know about them."""
        self._modules = modules
        self._described = {place.vaddr: place for place in found}
        self.vaddrs = array("Q", sorted({*self._described, *addresses}))
        self.starts = array("Q", bytes(8 * len(self.vaddrs)))
        for module in modules:
            self._find_starts(module)
        for vaddr, place in self._described.items():
            self.starts[bisect_left(self.vaddrs, vaddr)] = place.start_vaddr or 0

    def _find_starts(self, module: Module) -> None:
        """Fill in the starts of the addresses that lie in a module and have no description."""
        for mapping in module.mappings:
            first, last = bisect_left(self.vaddrs, mapping.start), bisect_left(self.vaddrs, mapping.end)
            fresh = [index for index in range(first, last) if self.vaddrs[index] not in self._described]
            if fresh:
                self._search(module, module.binary.functions, fresh)
        module.close()

    def _search(self, module: Module, functions: FunctionIndex, indices: list[int]) -> None:
        entries = functions.entries
        extent: Extent | None = None
        for index in indices:
            vaddr = module.vaddr_of(self.vaddrs[index])
            if vaddr in entries:
                self.starts[index] = self.vaddrs[index]
                continue
            # Addresses rise, so neighbours are mostly in one function.
            if extent is None or not extent.start <= vaddr < extent.end:
                extent = functions.extent_at(vaddr)
            if extent is not None:
                self.starts[index] = module.address_of(extent.start)

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
