"""The functions of a file, from all its symbol tables and its unwind entries together."""

from __future__ import annotations

import fnmatch
import re
from array import array
from bisect import bisect_left, bisect_right
from functools import cached_property
from itertools import accumulate, chain
from typing import TYPE_CHECKING, NamedTuple

from uprobes.symbols.frames import FrameTable
from uprobes.symbols.symbol_table import FUNC, GLOBAL, IFUNC, LOCAL, NOTYPE, UNIQUE, WEAK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from uprobes.symbols.elf import ElfFile
    from uprobes.symbols.symbol_table import Symbol, SymbolTable


class Extent(NamedTuple):
    """The half-open range of addresses of one function. Its first byte begins an instruction."""

    start: int
    end: int


class FunctionIndex:
    """Look-up by name, by glob and by address. What is asked for is computed, and no more."""

    def __init__(self, elf: ElfFile, tables: Sequence[SymbolTable]) -> None:
        """`tables` are all tables that speak of `elf`; a function may be in several."""
        self._tables = tables
        self._entry_vaddr = elf.entry_vaddr
        # the widest first: nearly every function is in .text
        self._code = sorted(elf.code_ranges, key=lambda span: span[0] - span[1])
        self.frames = FrameTable(elf)

    # ---- by name ----

    def named(self, name: str) -> list[Symbol]:
        """Every symbol in code with a name, which may have a version: `memcpy@GLIBC_2.2.5`.

        Without one, versions are left out that a program can get only by asking for them. Labels of
        assembly without a type are included: they may mark an instruction or, in code, a table.
        """
        base, at, version = name.partition("@")
        found = self._merge(self._find(base))
        if at:
            return [symbol for symbol in found if symbol.version == version.lstrip("@")]
        return [symbol for symbol in found if symbol.is_default] or found

    def matching(self, glob: str) -> list[Symbol]:
        """Every function whose name matches, in all versions. With `@` in the glob, versions are matched.

        A part that the compiler moved away from its function (`f.cold`) is none, unless the glob names it.
        """
        matches = re.compile(fnmatch.translate(glob)).match
        if "@" in glob:
            found = [symbol for symbol in self._merge(self._functions()) if matches(symbol.full_name)]
        else:
            found = self._merge(chain.from_iterable(table.functions(matches) for table in self._tables))
        return found if ".cold" in glob else [symbol for symbol in found if not _COLD.search(symbol.name)]

    def names(self) -> set[str]:
        """The names of all functions, for comparison with one that is not among them."""
        return {symbol.name for symbol in self._functions()}

    def variable(self, name: str) -> Symbol | None:
        """A symbol of that name that is not code."""
        return next((symbol for symbol in self._find(name) if not self.is_code(symbol.vaddr)), None)

    def versions(self, name: str) -> list[str]:
        """The full names of all versions of a function."""
        return [symbol.full_name for symbol in self._merge(self._find(name))]

    def is_imported(self, name: str) -> bool:
        """Whether the file uses a symbol of that name that another file must define."""
        return any(table.is_undefined(name) for table in self._tables)

    def aliases(self, vaddrs: Iterable[int]) -> dict[int, list[Symbol]]:
        """All functions that start at each address, the best name first."""
        by_vaddr: dict[int, list[Symbol]] = {vaddr: [] for vaddr in vaddrs}
        found = self._merge(chain.from_iterable(table.functions_at(by_vaddr) for table in self._tables))
        for symbol in found:
            by_vaddr[symbol.vaddr].append(symbol)
        for names in by_vaddr.values():
            if len(names) > 1:
                names.sort(key=_rank)
        return by_vaddr

    # ---- by address ----

    def is_code(self, vaddr: int) -> bool:
        """Whether functions live there: an executable section that is not a linkage table."""
        return any(start <= vaddr < end for start, end in self._code)

    def at(self, vaddr: int) -> Symbol | None:
        """The function that covers an address, by its best name; the innermost where they nest."""
        place = bisect_right(self._starts, vaddr) - 1
        while place >= 0 and vaddr < self._reach[place]:
            if vaddr < self._ends[place]:
                return self._best[self._starts[place]]
            place -= 1
        return None

    def extent_at(self, vaddr: int) -> Extent | None:
        """The smallest range with a known start that covers an address; None if nothing vouches for a start.

        Function symbols, unwind entries and the program's entry point vouch for theirs.
        """
        if (symbol := self.at(vaddr)) is not None:
            return self.extent_of(symbol)
        if (framed := self.frames.extent_at(vaddr)) is not None:
            return Extent(*framed)
        entry = self._entry_vaddr
        if self.is_code(entry) and entry <= vaddr < (end := self._next_start(entry)):
            return Extent(entry, end)
        return None

    def extent_of(self, symbol: Symbol) -> Extent:
        """From its first byte to its last."""
        return Extent(symbol.vaddr, symbol.vaddr + self.size_of(symbol))

    def size_of(self, symbol: Symbol) -> int:
        """Bytes of a function; one of unknown size ends with its unwind entry, or at the next start."""
        if symbol.size:
            return symbol.size
        framed = self.frames.extent_at(symbol.vaddr)
        return (framed[1] if framed else self._next_start(symbol.vaddr)) - symbol.vaddr

    def starts(self) -> list[int]:
        """Every address at which a function is known to start, named or not, sorted."""
        unnamed = (start for start, _ in self.frames.extents() if self.is_code(start))
        return sorted({*self._starts, *unnamed})

    def _next_start(self, vaddr: int) -> int:
        """The first known start above an address, or the end of its section."""
        following = [next((end for start, end in self._code if start <= vaddr < end), vaddr)]
        for starts in (self._starts, self.frames.starts):
            place = bisect_right(starts, vaddr)
            following += starts[place : place + 1]
        return min(following)

    # ---- tables, made when first needed ----

    @cached_property
    def entries(self) -> list[int]:
        """What ``starts()`` finds, kept."""
        return self.starts()

    @cached_property
    def spans(self) -> tuple[array[int], array[int], array[int]]:
        """Starts and ends of the functions whose symbols tell their size, by start, and the furthest end up to each:
        for look-ups of many addresses."""
        found = sorted({span for table in self._tables for span in table.function_spans()})
        inside: list[tuple[int, int]] = []
        for start, end in sorted(self._code):
            inside += found[bisect_left(found, (start, 0)) : bisect_left(found, (end, 0))]
        starts, ends = array("Q", (start for start, _ in inside)), array("Q", (min(end, _TOP) for _, end in inside))
        return starts, ends, array("Q", accumulate(ends, max))

    def _find(self, name: str) -> Iterator[Symbol]:
        return chain.from_iterable(table.find(name) for table in self._tables)

    def _functions(self) -> Iterator[Symbol]:
        return chain.from_iterable(table.functions() for table in self._tables)

    def _merge(self, symbols: Iterable[Symbol]) -> list[Symbol]:
        """The symbols that are in code, by address, each once: whichever table knows most about it."""
        known: dict[tuple[str, int], Symbol] = {}
        for symbol in symbols:
            if symbol.type in _IN_CODE and self.is_code(symbol.vaddr):
                key = symbol.name, symbol.vaddr
                known[key] = max(known[key], symbol, key=_detail) if key in known else symbol
        return sorted(known.values(), key=lambda symbol: symbol.vaddr)

    @cached_property
    def _best(self) -> dict[int, Symbol]:
        """The best-named function at each start."""
        best: dict[int, Symbol] = {}
        for symbol in self._merge(self._functions()):
            known = best.get(symbol.vaddr)
            if known is None or _rank(symbol) < _rank(known):
                best[symbol.vaddr] = symbol
        return best

    @cached_property
    def _starts(self) -> list[int]:
        return sorted(self._best)

    @cached_property
    def _ends(self) -> list[int]:
        return [start + self.size_of(self._best[start]) for start in self._starts]

    @cached_property
    def _reach(self) -> list[int]:
        """The furthest end among the functions up to each: where none further left can cover."""
        return list(accumulate(self._ends, max))


_TOP = (1 << 64) - 1
_COLD = re.compile(r"\.cold(\.[0-9]+)?$")
_IN_CODE = frozenset({NOTYPE, FUNC, IFUNC})
_BINDING_RANK = {GLOBAL: 0, UNIQUE: 0, WEAK: 1, LOCAL: 2}


def _rank(symbol: Symbol) -> tuple[int, bool, int, int, str]:
    """Which of several names for one place reads best: the smallest."""
    name = symbol.name
    underscores = len(name) - len(name.lstrip("_"))
    return _BINDING_RANK.get(symbol.binding, 3), not symbol.is_default, underscores, len(name), name


def _detail(symbol: Symbol) -> tuple[bool, bool, int]:
    """How much a table says about a symbol: the greatest wins."""
    return symbol.is_function, bool(symbol.version), symbol.size
