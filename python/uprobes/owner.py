"""Owners: whoever works on a target does it in the one thread that talks to its tracer.

A target and those of its children that are followed are a family: one tracer serves them all, and one thread talks to
it. Everybody else posts work to it. Between two pieces of work it is inside the tracer's loop, without the GIL; it
comes out for a posted piece of work, for a hit that has a callback, for a new child, and when a target executes another
program or ends.
"""

from __future__ import annotations

import contextlib
import errno
import signal
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from uprobe_core.trace import tracer as core
from uprobes.errors import TargetGone, UprobeError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

CHILDREN = {"clean": core.CLEAN, "follow": core.FOLLOW}
"""What becomes of a target's children: they get the original text back and are let go, or become targets too."""


# What its memory and its threads answer when they are no more: a descriptor on memory ends with the program.
_GONE = {errno.EIO, errno.ESRCH}


class Events(Protocol):
    """What an owner tells about its target; all are called in the owner thread."""

    def on_hit(self, tid: int, site: int) -> bool:
        """A thread stands at a site with a callback. True: its registers were changed."""

    def on_area_lost(self) -> None:
        """The target has unmapped a slot area, or changed its protection."""

    def on_child(self, tracer: core.Tracer) -> None:
        """The target has a child, which does not run yet. `tracer` serves it from now on."""

    def on_exec(self) -> None:
        """The target executed another program; nothing of ours is left in it."""

    def on_end(self, exit_code: int, exit_signal: int) -> None:
        """The target ended."""


class Owner:
    """Owns the tracer of process `pid` until `close()` or the target's end."""

    def __init__(
        self, pid: int, events: Events, parent: Owner | None = None, tracer: core.Tracer | None = None
    ) -> None:
        """Nothing is touched before `start_tracing()`. parent: the owner of the process of which this is a child, with
        `tracer`.
        """
        self.pid = pid
        self.tracer = core.Tracer(pid) if tracer is None else tracer
        self.events = events
        self.ended = threading.Event()
        self.failure: BaseException | None = None
        """What went wrong in the owner thread, if that ended it."""
        self._thread: OwnerThread = OwnerThread(self) if parent is None else parent._thread
        if parent is not None:
            self._thread.members[pid] = self

    def start_tracing(self, *, apart: bool, children: str = "clean") -> None:
        """Start the thread and seize the target; OSError says why not. apart: the tracer is a process of its own."""
        self._thread.start_tracing(apart, CHILDREN[children])

    def call(self, work: Callable[[], T]) -> T:
        """Run `work` in the owner thread and return what it returns. TargetGone once the tracing is over."""
        if self.ended.is_set():
            raise self.gone()
        if threading.current_thread() is self._thread:
            return work()
        try:
            return self._thread.post(self, work).result()
        except OSError as error:
            if error.errno in _GONE and not isinstance(error, UprobeError):
                raise TargetGone(self.pid, "it ended, or executed another program, meanwhile") from error
            raise

    def close(self, leave: Callable[[], None]) -> None:
        """Run `leave` in the owner thread as the last piece of work for this target."""
        with contextlib.suppress(TargetGone):
            self.call(lambda: self.end(leave))
        self._thread.join_if_last()

    def end(self, leave: Callable[[], None]) -> None:
        """In the owner thread: run `leave`, and be done."""
        try:
            leave()
        finally:
            self.finish()

    def finish(self) -> None:
        """In the owner thread: nothing can be asked of the target any more."""
        self.ended.set()
        self._thread.forget(self)

    def wait(self, fact: Callable[[], bool], timeout: float | None) -> None:
        """Wait until `fact()` holds, asked whenever a target of the family is done with, or `timeout` seconds."""
        with self._thread.ends:
            self._thread.ends.wait_for(fact, timeout)

    def gone(self) -> TargetGone:
        """The exception for who asks too late."""
        error = TargetGone(self.pid, "it ended, or was detached")
        error.__cause__ = self.failure
        return error


class OwnerThread(threading.Thread):
    """The thread of a family, from the attach until its last target is left or has ended."""

    def __init__(self, first: Owner) -> None:
        """Of the target that is attached to."""
        super().__init__(name=f"uprobes-{first.pid}", daemon=True)
        self.members = {first.pid: first}
        self._first = first
        self._tracer = first.tracer
        self._work: deque[tuple[Owner, Callable[[], Any], Future[Any]]] = deque()
        self._lock = threading.Lock()
        self.ends = threading.Condition()
        """Notified when a target is done with."""
        self._over = False
        self._seized: Future[None] = Future()
        self._how = (True, core.CLEAN)

    def start_tracing(self, apart: bool, children: int) -> None:
        """See Owner.start_tracing."""
        self._how = (apart, children)
        self.start()
        self._seized.result()

    def post(self, owner: Owner, work: Callable[[], T]) -> Future[T]:
        """`work` for a target, to be done as soon as the tracer comes out of its loop. TargetGone."""
        future: Future[T] = Future()
        with self._lock:
            if self._over:
                raise owner.gone()
            self._work.append((owner, work, future))
        self._tracer.ring()
        return future

    def forget(self, owner: Owner) -> None:
        """One target less."""
        self.members.pop(owner.pid, None)
        with self.ends:
            self.ends.notify_all()

    def join_if_last(self) -> None:
        """Wait for the thread's end if it has nobody to serve."""
        if not self.members and threading.current_thread() is not self:
            self.join()

    def run(self) -> None:
        """The thread's body: the tracer's loop and what it comes out for."""
        # A handler that ran here would share errno with the tracer, which borrows this thread's local storage.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._tracer.start(*self._how)
        except BaseException as error:
            self._finish(error)
            self._seized.set_exception(error)
            return
        self._seized.set_result(None)
        failure: BaseException | None = None
        try:
            while self.members:
                self._serve()
        except BaseException as error:  # kept for whoever asks next: nobody can catch it in this thread
            failure = error
        self._finish(failure)

    def _serve(self) -> None:
        event = self._tracer.run()
        if event == core.BELL:
            self._do_work()
            return
        owner = self.members[self._tracer.current]
        if event == core.HIT:
            changed = owner.events.on_hit(*owner.tracer.hit())
            if not owner.ended.is_set():
                owner.tracer.resume_hit(changed)
        elif event == core.CHILD:
            # Killed before its first instruction, it is nobody's.
            with contextlib.suppress(OSError):
                owner.events.on_child(owner.tracer.adopt_child())
        elif event == core.EXEC:
            owner.events.on_exec()
        elif event == core.AREA:
            owner.events.on_area_lost()
        elif event == core.ENDED:
            owner.tracer.leave(0)
            owner.events.on_end(*owner.tracer.exit)
            owner.finish()

    def _do_work(self) -> None:
        while self._work and self.members:
            owner, work, future = self._work.popleft()
            if owner.ended.is_set():
                future.set_exception(owner.gone())
                continue
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

    def _finish(self, failure: BaseException | None) -> None:
        with self._lock:
            self._over = True
        for owner in [self._first, *self.members.values()]:
            owner.failure = failure
            owner.ended.set()
        self.members.clear()
        with self.ends:
            self.ends.notify_all()
        while self._work:
            owner, _, future = self._work.popleft()
            future.set_exception(owner.gone())
