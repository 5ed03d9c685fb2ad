"""Recordings: what was asked for at every hit, in order of time."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from uprobe_core.abi import HIT_FIELDS_MAX, RING_HEADER, hit_field_kind, predicate_code
from uprobe_core.linux.clock import Clock
from uprobe_core.trace.ring import RingReader
from uprobe_core.x86.hitplan import HitPlan
from uprobes.batch import Batch
from uprobes.board import Board
from uprobes.drain import Drain
from uprobes.errors import FieldError
from uprobes.operand import OTHER, find_operand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from uprobes.batch import Record
    from uprobes.probe import Probe

RING_SHIFT = 24
"""log2 of the bytes that a ring may take: half a second of a hundred thousand records a second, many times over."""
ROOM = 65536
"""Records in one batch, at most."""
MEMORY = 1 << 28
"""Bytes of records that are kept for a reader that does not come; then rings fill up, and hits are lost and counted."""
_RECORD_SIZE = 16
_WORD = 8
_REST_S = 0.002


def ring_order(fields: int) -> int:
    """log2 of the records that a ring has."""
    return (((1 << RING_SHIFT) - RING_HEADER) // (_RECORD_SIZE + _WORD * fields)).bit_length() - 1


def parse_fields(names: Sequence[str]) -> list[tuple[int, int]]:
    """What the core knows fields as. FieldError: there is no such field, or there are too many."""
    if isinstance(names, str):
        names = [names]
    if len(names) > HIT_FIELDS_MAX:
        raise FieldError(", ".join(names), f"{len(names)} fields", hint=f"at most {HIT_FIELDS_MAX}")
    fields: list[tuple[int, int]] = []
    for name in names:
        operand = find_operand(name)
        on_stack = operand is not None and operand.code == predicate_code.OP_STACK
        general = operand is not None and operand.code == predicate_code.OP_REGISTER and operand.value < OTHER
        if operand is None or not (on_stack or general):
            hint = "argN, stackN, retval or a general register as rdi; every record has the thread's number anyway"
            raise FieldError(name, "no such field", hint=hint)
        fields.append((hit_field_kind.FIELD_STACK if on_stack else hit_field_kind.FIELD_REGISTER, operand.value))
    return fields


class Recording:
    """Records of the hits of a probe's sites; made by ``Target.record``.

    Iterating gives Records as they come, until the target ends or ``close()``. A thread moves records out of the rings
    meanwhile, so that they wait in memory for whoever reads them later.
    """

    def __init__(self, board: Board, plan: HitPlan, fields: Sequence[str], order: int) -> None:
        """Nothing is recorded before `start`."""
        self.fields = tuple(fields)
        self.probe: Probe
        """Its sites, and whether it is enabled."""
        self._reader = RingReader(board.memory, board.strides, board.shift, 0, order, len(self.fields), Clock())
        self._waiting: deque[Batch] = deque()
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._sites: dict[int, Any] = {}
        self.plan = plan
        self._drain: Drain | None = None

    def start(self, probe: Probe, ended: Callable[[], bool]) -> None:
        """The probe writes to the rings from now on; `ended` tells when no more will come."""
        self.probe = probe
        self._sites = probe.sites.by_number()
        self._drain = Drain(self._update, ended)

    @property
    def hits(self) -> int:
        """Hits of its sites while it was enabled, recorded or not."""
        return self.probe.hits

    @property
    def lost(self) -> int:
        """Hits that should have been recorded and found no room."""
        return self._reader.lost

    @property
    def damaged(self) -> int:
        """Records and rings that the target must have scrambled."""
        return self._reader.damaged

    def read(self, timeout: float | None = 0.0) -> Batch | None:
        """The next batch of records; None: there is none within `timeout` seconds (None: until there will never be)."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            over = self._drain is None or not self._drain.is_alive()
            with self._lock:
                if self._waiting:
                    batch = self._waiting.popleft()
                    self._waiting_bytes -= batch.nbytes
                    return batch
            if over or (end is not None and time.monotonic() >= end):
                return None
            time.sleep(_REST_S)

    def __iter__(self) -> Iterator[Record]:
        """Every record, as they come."""
        while (batch := self.read(timeout=None)) is not None:
            yield from batch

    def to_arrow(self) -> Any:
        """All records that were not read yet as a pyarrow.Table: time_ns, tid, site, address, and the fields.

        UprobeError: pyarrow is not installed (it comes with ``pip install 'uprobes[arrow]'``).
        """
        from uprobes.arrow import make_table

        self._settle()
        batches = []
        while (batch := self.read()) is not None:
            batches.append(batch)
        return make_table(batches, self.fields)

    arrow = to_arrow

    def enable(self) -> None:
        """Record again."""
        self.probe.enable()

    def disable(self) -> None:
        """Record no more; what was recorded can still be read."""
        self.probe.disable()
        self._settle()

    def close(self) -> None:
        """Record no more and forget the sites; what was recorded can still be read."""
        self.probe.remove()
        if self._drain is not None:
            self._drain.stop()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        """Specification and fields."""
        return f"<Recording {self.probe.spec} {', '.join(self.fields) or 'no fields'}, {self.lost} lost>"

    def _settle(self) -> None:
        """Move all that is in the rings, if nobody writes to them, or all but the last millisecond."""
        while self._update(not self.probe.enabled):
            pass

    def _update(self, everything: bool) -> bool:
        """Move one batch out of the rings; whether there was one."""
        with self._lock:
            if self._waiting_bytes > MEMORY:
                return False
            room = min(ROOM, self._reader.waiting)
            if not room:
                return False
            batch = Batch(self.fields, room, self._sites.__getitem__)
            if not batch.fill(self._reader, everything=everything):
                return False
            self._waiting.append(batch)
            self._waiting_bytes += batch.nbytes
            return True


def make_plan(
    fields: Sequence[tuple[int, int]], ops: Sequence[tuple[int, int]], every: int, limit: int | None
) -> tuple[HitPlan, Board, int]:
    """A plan, a new board for it and the order of its rings."""
    order = ring_order(len(fields))
    board = Board(RING_SHIFT)
    budget = 0
    if limit is not None:
        budget = BUDGET_OFFSET
        board.set_word(budget, limit)
    try:
        plan = HitPlan(shift=board.shift, order=order, fields=fields, ops=ops, every=every, budget=budget)
    except ValueError as error:
        raise FieldError("every", str(error)) from None
    return plan, board, order


BUDGET_OFFSET = 128
"""Of ring_t's budget."""
