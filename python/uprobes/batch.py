"""Records in columns: what a recording gives out, many at a time."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from uprobe_core.abi import RECORD_UNREAD, predicate_code
from uprobes.operand import find_operand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from uprobe_core.trace.ring import RingReader
    from uprobes.probe import Site


class Record:
    """One record: ``time_ns`` (CLOCK_MONOTONIC), ``tid``, ``site``, and the fields by their names or as ``values``.

    A field that could not be read (a word of the stack past its last page) is None.
    """

    __slots__ = ("names", "site", "tid", "time_ns", "values")

    def __init__(
        self, time_ns: int, tid: int, site: Site, names: Sequence[str], values: tuple[int | None, ...]
    ) -> None:
        """Made by Batch."""
        self.time_ns = time_ns
        self.tid = tid
        self.site = site
        self.values = values
        self.names = names

    def __getattr__(self, name: str) -> int | None:
        """A field's value, a 64-bit unsigned integer."""
        try:
            return self.values[self.names.index(name)]
        except ValueError:
            raise AttributeError(f"no field {name!r}; there are {', '.join(self.names) or 'none'}") from None

    def __repr__(self) -> str:
        """Time, thread, place, fields."""
        fields = "".join(
            f" {name}={value if value is None else hex(value)}"
            for name, value in zip(self.names, self.values, strict=True)
        )
        return f"<Record {self.time_ns / 1e9:.9f} tid {self.tid} {self.site.name}{fields}>"


class Batch:
    """Records in order of time. ``times`` (ns, CLOCK_MONOTONIC), ``tids``, ``sites`` (numbers, for ``site_of``) and
    ``column(name)`` are memoryviews, one element a record; iterating gives Records.
    """

    __slots__ = ("_columns", "_room", "_site_of", "_values", "fields", "size")

    def __init__(self, fields: Sequence[str], room: int, site_of: Callable[[int], Site]) -> None:
        """Empty, with room for so many records."""
        self.fields = tuple(fields)
        self.size = 0
        self._room = room
        self._site_of = site_of
        self._columns = array("Q", bytes(8 * room)), array("I", bytes(4 * room)), array("I", bytes(4 * room))
        self._values = array("Q", bytes(8 * room * max(len(self.fields), 1)))

    def fill(self, reader: RingReader, *, everything: bool) -> int:
        """Read records from rings; how many there are now."""
        self.size = reader.read(*self._columns, self._values, everything)
        return self.size

    @property
    def times(self) -> memoryview:
        """Nanoseconds of CLOCK_MONOTONIC."""
        return memoryview(self._columns[0])[: self.size]

    @property
    def tids(self) -> memoryview:
        """Threads."""
        return memoryview(self._columns[1])[: self.size]

    @property
    def sites(self) -> memoryview:
        """Numbers of sites; RECORD_UNREAD is set where words of the stack could not be read."""
        return memoryview(self._columns[2])[: self.size]

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return (16 + 8 * max(len(self.fields), 1)) * self._room

    def column(self, name: str) -> memoryview:
        """The values of one field. KeyError where there is no such field."""
        if name not in self.fields:
            raise KeyError(name)
        start = self.fields.index(name) * self._room
        return memoryview(self._values)[start : start + self.size]

    def site_of(self, number: int) -> Site:
        """The site with this number."""
        return self._site_of(number & ~RECORD_UNREAD)

    def raw(self) -> tuple[Any, Any, Any, Any, int]:
        """The columns with all their room, and how many records they hold."""
        return (*self._columns, self._values, self.size)

    def __len__(self) -> int:
        """How many records."""
        return self.size

    def __iter__(self) -> Iterator[Record]:
        """The records, one by one."""
        columns = [self.column(name) for name in self.fields]
        on_stack = [is_on_stack(name) for name in self.fields]
        for index, (time_ns, tid, site) in enumerate(zip(self.times, self.tids, self.sites, strict=True)):
            unread = site & RECORD_UNREAD
            values = tuple(
                None if unread and stack else column[index] for column, stack in zip(columns, on_stack, strict=True)
            )
            yield Record(time_ns, tid, self.site_of(site), self.fields, values)


def is_on_stack(name: str) -> bool:
    """Whether a field is a word of the stack."""
    operand = find_operand(name)
    return operand is not None and operand.code == predicate_code.OP_STACK
