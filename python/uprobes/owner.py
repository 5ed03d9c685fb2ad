"""The owner thread: the one thread that talks to a target's tracer.

Everybody else posts work to it. Between two pieces of work it is inside the tracer's loop, without the GIL; it comes
out for a posted piece of work, for a hit that has a callback, and when the target executes another program or ends.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from uprobe_core.trace import tracer as core
from uprobes.errors import TargetGone, TracerLost

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Events(Protocol):
    """What the owner tells about; all are called in the owner thread."""

    def on_hit(self, tid: int, site: int) -> bool:
        """A thread stands at a site with a callback. True: its registers were changed."""

    def on_area_lost(self) -> None:
        """The target has unmapped a slot area, or changed its protection."""

    def on_exec(self) -> None:
        """The target executed another program; nothing of ours is left in it."""

    def on_tracer_lost(self) -> BaseException:
        """Somebody has killed the tracer. Put the target right; what to tell who asks next."""

    def on_end(self, exit_code: int, exit_signal: int) -> None:
        """The target ended."""


class Owner(threading.Thread):
    """Owns the tracer of process `pid` until `close()` or the target's end."""

    def __init__(self, pid: int, events: Events) -> None:
        """Nothing is touched before `start_tracing()`."""
        super().__init__(name=f"uprobes-{pid}", daemon=True)
        self.pid = pid
        self.tracer = core.Tracer(pid)
        self.ended = threading.Event()
        self._events = events
        self._work: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._lock = threading.Lock()
        self._closing = False
        self._seized: Future[None] = Future()
        self._apart = True
        self._failure: BaseException | None = None

    def start_tracing(self, *, apart: bool) -> None:
        """Start the thread and seize the target; OSError says why not. apart: the tracer is a process of its own."""
        self._apart = apart
        self.start()
        self._seized.result()

    def call(self, work: Callable[[], T]) -> T:
        """Run `work` in the owner thread and return what it returns. TargetGone once the tracing is over."""
        if threading.current_thread() is self:
            return work()
        future: Future[T] = Future()
        with self._lock:
            if self.ended.is_set():
                raise self._gone()
            self._work.append((work, future))
        self.tracer.ring()
        return future.result()

    def close(self, leave: Callable[[], None]) -> None:
        """Run `leave` in the owner thread as its last piece of work."""

        with contextlib.suppress(TargetGone):
            self.call(lambda: self.end(leave))
        if threading.current_thread() is not self:
            self.join()

    def end(self, leave: Callable[[], None]) -> None:
        """In the owner thread: run `leave`, and be done."""
        self._closing = True
        leave()

    def run(self) -> None:
        """The thread's body: the tracer's loop and what it comes out for."""
        # A handler that ran here would share errno with the tracer, which borrows this thread's local storage.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self.tracer.start(self._apart)
        except BaseException as error:
            self._finish(error)
            self._seized.set_exception(error)
            return
        self._seized.set_result(None)
        failure: BaseException | None = None
        try:
            self._serve()
        except BaseException as error:  # kept for whoever asks next: nobody can catch it in this thread
            failure = error
        if self.tracer.lost:
            with contextlib.suppress(OSError):
                self.tracer.leave(0)  # there is nobody to leave, but a zombie to bury
            failure = self._events.on_tracer_lost()
        self._finish(failure)

    def _serve(self) -> None:
        while not self._closing:
            event = self.tracer.run()
            if event == core.BELL:
                self._do_work()
            elif event == core.HIT:
                changed = self._events.on_hit(*self.tracer.hit())
                if not self._closing:
                    self.tracer.resume_hit(changed)
            elif event == core.EXEC:
                self._events.on_exec()
            elif event == core.AREA:
                self._events.on_area_lost()
            elif event == core.ENDED:
                self.tracer.leave(0)
                self._events.on_end(*self.tracer.exit)
                return

    def _do_work(self) -> None:
        while self._work and not self._closing:
            work, future = self._work.popleft()
            try:
                future.set_result(work())
            except BaseException as error:
                if self.tracer.lost:
                    # What became of it is told when the target has been put right.
                    self._work.appendleft((work, future))
                    return
                future.set_exception(error)

    def _gone(self) -> TargetGone:
        """For who comes too late."""
        if isinstance(self._failure, TracerLost):
            return TracerLost(self.pid, self._failure.clean)
        gone = TargetGone(self.pid, "it ended, or was detached")
        gone.__cause__ = self._failure
        return gone

    def _finish(self, failure: BaseException | None) -> None:
        self._failure = failure
        with self._lock:
            self.ended.set()
        while self._work:
            _, future = self._work.popleft()
            future.set_exception(self._gone())
