"""Printing hits beside the target: a reader that is slow, or a pager that waits, must not hold its threads up."""

from __future__ import annotations

import queue
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from uprobes.cli.count import describe_site
from uprobes.cli.output import print_object
from uprobes.cli.session import SessionEnded

if TYPE_CHECKING:
    from collections.abc import Callable

    from uprobes.cli.arguments import Call, Value
    from uprobes.hit import Hit
    from uprobes.probe import Site

WAITING: Final = 100_000
"""Hits that may wait to be printed; those that come when there are as many are counted as not shown."""


class Seen(NamedTuple):
    """What is kept of a hit: the thread goes on at once."""

    call: Call
    site: Site
    time_ns: int
    tid: int
    values: list[Value]


class Printer:
    """Takes hits in their callbacks and prints them in a thread of its own, until it has `limit` of them."""

    def __init__(self, as_json: bool, limit: int | None) -> None:
        """`limit` counts hits of all specifications together; None: no limit."""
        self._as_json = as_json
        self._limit = limit
        self._taken = 0
        self._dropped = 0
        self._failure: BaseException | None = None
        self._first_ns: int | None = None
        self._places: dict[int, dict[str, Any]] = {}
        self._waiting: queue.Queue[Seen | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._print_all, name="uprobes-printer", daemon=True)

    @property
    def shown(self) -> int:
        """How many hits were printed."""
        return self._taken - self._dropped

    def callback(self, call: Call) -> Callable[[Hit], None]:
        """What to do at a hit of `call`. Before start() they are let pass: a session must not end while it begins."""

        def take(hit: Hit) -> None:
            if self._taken == self._limit or not self._thread.is_alive():
                return
            self._taken += 1
            try:
                self._waiting.put_nowait(Seen(call, hit.site, hit.time_ns, hit.tid, call.values(hit)))
            except queue.Full:
                self._dropped += 1
            if self._taken == self._limit:
                raise SessionEnded

        return take

    def start(self) -> None:
        """From now on hits are printed."""
        self._thread.start()

    def finish(self) -> None:
        """Print what waits, and raise what went wrong with it."""
        while self._thread.is_alive():
            try:
                self._waiting.put(None, timeout=0.1)
                break
            except queue.Full:
                continue
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _print_all(self) -> None:
        try:
            while (seen := self._waiting.get()) is not None:
                self._print(seen)
                if self._waiting.empty():
                    sys.stdout.flush()
        except BaseException as error:
            self._failure = error
            # The session is at an end: the main thread learns it as it learns of Ctrl-C.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _print(self, seen: Seen) -> None:
        """One line for one call; times count from the first."""
        if self._as_json:
            if seen.site.address not in self._places:
                self._places[seen.site.address] = describe_site(seen.site)
            place = self._places[seen.site.address]
            facts = {"time_ns": seen.time_ns, "tid": seen.tid, "args": seen.values}
            print_object("hit", spec=seen.call.spec, **place, **facts)
            return
        if self._first_ns is None:
            self._first_ns = seen.time_ns
        seconds = (seen.time_ns - self._first_ns) / 1e9
        sys.stdout.write(f"{seconds:11.6f}  {seen.tid:>7}  {seen.site.name}({seen.call.show(seen.values)})\n")
