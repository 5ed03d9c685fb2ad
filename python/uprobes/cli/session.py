"""One session of a subcommand with a target: attach or start, serve, and always leave it restored."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

import uprobes
from uprobes.cli.output import plural, print_note, print_object
from uprobes.cli.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType, TracebackType

    from uprobes.latency import Latency
    from uprobes.pending import PendingProbe
    from uprobes.probe import Probe
    from uprobes.recording import Recording
    from uprobes.target import Target

LOOK: Final = 0.5
"""Seconds between two looks at whether something was switched off."""
ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SessionEnded(KeyboardInterrupt):
    """A signal, or we ourselves, asked the session to end. Nothing on the way may take it for a failure."""


class Signals:
    """Signals that end a session, taken so that they never interrupt attaching, patching or restoring.

    They raise SessionEnded only inside `serve`; at any other time they are remembered until then. A second
    one before the target is served raises as well, since attaching itself may hang.
    """

    def __init__(self) -> None:
        """No signal seen yet."""
        self._seen = 0
        self._serving = False
        self._leaving = False
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Take the signals over."""
        for number in ENDING:
            self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give them back."""
        for number, old in self._old.items():
            signal.signal(number, old)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self._seen += 1
        if self._serving or (self._seen > 1 and not self._leaving):
            self._serving = False
            raise SessionEnded

    def serve(self, work: Callable[[], None]) -> None:
        """Call `work`, which a signal ends quietly; not at all if one has come before."""
        try:
            self._serving = True
            if not self._seen:
                work()
        except SessionEnded:
            pass
        finally:
            self._serving = False

    def serve_steps(self, step: Callable[[], bool]) -> None:
        """Call `step` again and again until it says that it is enough, or a signal came; none interrupts it."""
        while not self._seen and not step():
            pass

    def leave(self) -> None:
        """From here on nothing is interrupted any more."""
        self._leaving = True


class Session:
    """A target under probes, for one subcommand."""

    def __init__(self, target: Target, signals: Signals, duration: float | None, *, pending: bool = False) -> None:
        """`duration` in seconds; None: until something else ends it. pending: places may come later."""
        self.target = target
        self.duration = duration
        self.probes: list[Probe | PendingProbe] = []
        self.readers: list[Recording | Latency] = []
        """What may have lost hits."""
        self.seconds = 0.0
        self.restored = False
        self._signals = signals
        self._pending = pending
        self._throttled: set[int] = set()

    def probe(self, specs: Sequence[str], mode: str, when: str | None = None) -> None:
        """Count at every place that the specifications stand for."""
        for spec in specs:
            self.probes.append(self.target.probe(spec, mode=mode, when=when, pending=self._pending))
        self._tell("counting")

    def on(self, specs: Sequence[str], mode: str, callbacks: Sequence[Callable[[Any], None]]) -> None:
        """Call callbacks[i] at every hit of specs[i]."""
        for spec, callback in zip(specs, callbacks, strict=True):
            decorated: Any = self.target.on(spec, mode=mode, pending=self._pending)(callback)
            self.probes.append(decorated.probe)
        self._tell("tracing")

    def record(
        self, specs: Sequence[str], fields: Sequence[str], when: str | None, mode: str, every: int, limit: int | None
    ) -> Recording:
        """Record at every place that the specifications stand for, all in one recording."""
        recording = self.target.record(specs, fields, when, mode, every=every, limit=limit)
        self.readers.append(recording)
        self.probes.append(recording.probe)
        self._tell("recording")
        return recording

    def time(self, specs: Sequence[str], when: str | None, mode: str) -> list[Latency]:
        """Time the functions that the specifications stand for."""
        latencies = [self.target.latency(spec, when, mode) for spec in specs]
        for latency in latencies:
            self.readers.append(latency)
            self.probes += [latency.entries, latency.exits]
        self._tell("timing")
        return latencies

    def _tell(self, doing: str) -> None:
        sites = [site for probe in self.probes for site in probe.sites]
        refused = sum(site.refusal is not None for site in sites)
        end = f"{self.duration:g} s" if self.duration else "Ctrl-C"
        left = f" ({plural(refused, 'place')} refused; uprobes explain says why)" if refused else ""
        where = f"{plural(len(sites) - refused, 'site')}{left} of process {self.target.pid}"
        print_note(f"uprobes: {doing} at {where}; {end} ends it")

    def serve(self) -> None:
        """Until the time is up, the target ends, or a signal comes."""
        started = time.monotonic()
        self._signals.serve(self._run)
        self.seconds = time.monotonic() - started

    def _run(self) -> None:
        until = None if self.duration is None else time.monotonic() + self.duration
        while True:
            left = LOOK if until is None else min(LOOK, until - time.monotonic())
            self.target.run(timeout=max(left, 0))
            self._tell_throttled()
            if left <= 0 or not any(one.alive for one in self.target.family):
                return

    def _tell_throttled(self) -> None:
        """Once a probe, as soon as it is known: its counts are too low from now on."""
        for one in self.target.family:
            for probe in one.probes:
                if id(probe) not in self._throttled and probe.throttled:
                    self._throttled.add(id(probe))
                    where = f"{probe.spec} in process {one.pid}"
                    print_note(
                        f"uprobes: {where} is hit too often and is switched off from time to time; what it misses is"
                        " counted as lost; hint: --budget 0 serves every hit"
                    )

    @property
    def family_probes(self) -> list[tuple[int, Probe | PendingProbe]]:
        """Every probe of the target and of followed children, with the pid."""
        return [(self.target.pid, probe) for probe in self.probes] + [
            (one.pid, probe) for one in self.target.family[1:] for probe in one.probes
        ]

    def serve_reading(self, step: Callable[[], bool]) -> None:
        """The same, while `step` is called again and again: it waits a little for something to read, and says whether
        it has enough."""
        started = time.monotonic()
        end = started + self.duration if self.duration else float("inf")
        self.target.resume()
        self._signals.serve_steps(lambda: step() or time.monotonic() >= end or not self.target.alive)
        self.seconds = time.monotonic() - started

    def leave(self) -> None:
        """Detach from the target; nothing interrupts this."""
        self._signals.leave()
        self.target.detach()
        self.restored = self.target.exit_code is None

    def summarise(self, as_json: bool, shown: int | None = None) -> None:
        """The last line of every session; `shown`: how many of the hits were printed, where not all are."""
        sites = sum(len(probe.sites) for probe in self.probes)
        hits = sum(probe.hits for _, probe in self.family_probes)
        lost = sum(probe.lost for _, probe in self.family_probes) + sum(reader.lost for reader in self.readers)
        throttled = max((probe.throttled for _, probe in self.family_probes), default=0.0)
        children = len(self.target.family) - 1
        pid = self.target.pid
        if as_json:
            facts: dict[str, object] = {"hits": hits, "lost": lost, "throttled": round(throttled, 3), "sites": sites}
            facts |= {"children": children, "seconds": round(self.seconds, 3)}
            print_object("summary", pid=pid, **facts, restored=self.restored)
        fate = f"process {pid} runs on, restored" if self.restored else f"process {pid} ended"
        seen = plural(hits, "hit") + (f", at least {lost:,} lost" if lost else "")
        among = " of it and a child process" if children == 1 else ""
        among = f" of it and {children:,} child processes" if children > 1 else among
        if shown is not None:
            seen = f"{shown:,} of {seen} shown"
        print_note(f"uprobes: {seen} at {plural(sites, 'site')}{among} in {self.seconds:.1f} s; {fate}")


@contextmanager
def open_session(
    pid: int | None, argv: Sequence[str] | None, duration: float | None, as_json: bool, policy: Policy | None = None
) -> Iterator[Session]:
    """Attach to `pid` or start `argv`, and leave the target restored however the block ends.

    With `as_json` the standard output is for our objects alone: a started command's goes to standard error.
    """
    policy = policy or Policy()
    how: dict[str, Any] = {"children": policy.children, "budget": policy.share(attached=pid is not None)}
    with Signals() as signals:
        if pid is not None:
            target = uprobes.attach(pid, **how)
        else:
            target = uprobes.spawn(list(argv or ()), stdout=sys.stderr.fileno() if as_json else -1, **how)
        session = Session(target, signals, duration, pending=policy.pending)
        try:
            yield session
        finally:
            session.leave()
