"""A running process under our eyes: attaching, probing, serving callbacks, and leaving without a trace."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import sys
import threading
import time
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from uprobe_core.linux import spawn as core_spawn
from uprobe_core.x86.hitplan import HitPlan
from uprobes.board import Board
from uprobes.boundaries import enclosing_instruction, function_instructions, neighbours
from uprobes.errors import ProbeRefused, TracerLost, UprobeError
from uprobes.hit import Memory, Registers
from uprobes.journal import find_dead
from uprobes.owner import CHILDREN, Owner
from uprobes.pending import PendingProbes
from uprobes.permission import explain_refusal, require_traceable, tracer_apart
from uprobes.place import Place
from uprobes.places import Places
from uprobes.probe import Probe
from uprobes.process import entry_vaddr
from uprobes.recovery import recover, undo
from uprobes.refusal import Refusal
from uprobes.resolve import resolve
from uprobes.sites import MODES, STRATEGIES, SiteTable
from uprobes.spec import ProbeSpec, Provider, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from uprobe_core.trace.tracer import Tracer
    from uprobes.latency import Latency
    from uprobes.pending import PendingProbe
    from uprobes.predicate import Predicate
    from uprobes.probe import Callback
    from uprobes.process import Module
    from uprobes.recording import Recording

C = TypeVar("C", bound="Callback")

_live: weakref.WeakSet[Target] = weakref.WeakSet()


class Target:
    """A traced process. Made by ``attach()`` and ``spawn()``; a context manager that detaches at its end."""

    def __init__(
        self,
        pid: int,
        *,
        seal: bool = True,
        children: str = "clean",
        budget: float | None = None,
        parent: Target | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """Use ``attach()`` or ``spawn()``. Followed children are made by their parents' targets."""
        self.pid = pid
        self.parent = parent
        """Of a child that is followed: the target that made it."""
        self.children: list[Target] = []
        """With ``children="follow"``: the processes that it has made, each with ``probes`` of its own."""
        self._policy = children
        self._budget = budget
        self._seal = seal
        self.exit_code: int | None = None
        """After the process has ended by itself: its exit code, or the negative number of the signal that ended it."""
        self._failure: BaseException | None = None
        self._kept = False
        self._at_entry = threading.Event()
        self._owner: Owner = Owner(pid, self, None if parent is None else parent._owner, tracer)
        self._sites = SiteTable(self._owner, pid, seal=seal)
        self._pending = PendingProbes(self)
        self._sites.on_libraries = self._look_again
        self._sites.on_ground_lost = self._pending.forget

    # ---- life

    def _start(self) -> None:
        require_traceable(self.pid)
        if find_dead(self.pid) is not None:
            recover(self.pid)
        try:
            self._owner.start_tracing(apart=tracer_apart(), children=self._policy)
        except OSError as error:
            raise explain_refusal(self.pid, error) from error
        if self._budget:
            self._owner.call(lambda: self._owner.tracer.set_budget(self._budget or 0.0))
        _live.add(self)

    @property
    def alive(self) -> bool:
        """Whether the process is there and we trace it."""
        return not self._owner.ended.is_set()

    @property
    def family(self) -> list[Target]:
        """It and all followed descendants, parents first."""
        return [self, *(one for child in self.children for one in child.family)]

    @property
    def probes(self) -> list[Probe | PendingProbe]:
        """Its probes. A followed child has those that its parent had when it was made, and counts its own hits."""
        parts = {id(part) for probe in self._pending.all for part in probe.parts}
        own = [probe for probe in self._sites.probes if id(probe) not in parts and probe is not self._pending.hidden]
        return [*own, *self._pending.all]

    @property
    def tasks(self) -> list[int]:
        """The tids of its threads that we trace."""
        return sorted(self._owner.call(self._owner.tracer.tasks))

    @property
    def modules(self) -> list[Module]:
        """The files with code that it has mapped."""
        from uprobes.process import read_modules

        return read_modules(self.pid)

    @property
    def memory(self) -> Memory:
        """Its memory, at any time."""
        return Memory(self._owner.tracer)

    def resume(self) -> None:
        """Let a spawned process begin; it waits at its entry point until then. ``run()`` does it too."""
        if self._kept:
            self._kept = False
            self._owner.call(self._owner.tracer.set_off)

    def run(self, timeout: float | None = None) -> None:
        """Serve callbacks until the process and all followed children have ended, or `timeout` seconds have passed.

        An exception in a callback takes all probes back and is raised here. Counting goes on without ``run()``.
        """
        self.resume()
        until = None if timeout is None else time.monotonic() + timeout
        while living := [one for one in self.family if one.alive]:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                break
            living[0]._owner.ended.wait(left)
        self._raise_failure()

    def detach(self) -> None:
        """Put all text back, byte for byte, and let go. Nothing of ours is left running, nor in followed children."""
        self.resume() if self.alive else None
        for one in reversed(self.family):
            one._owner.close(one._sites.leave)
        _live.discard(self)

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            self.detach()
            raise failure

    def __enter__(self) -> Target:
        """The target itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Detach. A callback's exception that nobody has seen is raised, unless another is under way."""
        self.detach()
        if kind is None:
            self._raise_failure()

    def __repr__(self) -> str:
        """Pid and whether it is traced."""
        return f"<Target pid {self.pid} {'traced' if self.alive else 'not traced'}>"

    # ---- probes

    def probe(
        self,
        spec: str | ProbeSpec | int | Iterable[str | ProbeSpec | int],
        mode: str = "auto",
        rip: str = "auto",
        when: str | None = None,
        pending: bool = False,
    ) -> Probe | PendingProbe:
        """Count how often places are reached, from now on.

        `spec`: one specification (a glob gives many sites), an address, or several of them. `mode`: ``auto``, ``trap``
        or ``step``; `rip`: the answer to RIP-relative operands, ``auto``, ``scratch``, ``segment`` or
        ``displacement``. `when`: count only hits for which this expression over arguments and registers holds, as
        ``arg2 > 4096 and arg0 != 0``.

        Of a glob, sites that cannot be probed are left out and say why (``site.refusal``); a single place that
        cannot be probed raises ProbeRefused.

        pending: what is not there may come. Libraries that the process loads later are probed before their first
        instruction runs, and programs that it executes from their entry points on (PendingProbe).
        """
        if pending:
            return self._add_pending(spec, mode, rip, when, None)
        return self._probe(spec, mode, rip, when, None)

    def on(
        self,
        spec: str | ProbeSpec | int | Iterable[str | ProbeSpec | int],
        mode: str = "auto",
        rip: str = "auto",
        when: str | None = None,
        pending: bool = False,
    ) -> Callable[[C], C]:
        """Decorate a function that is called with a Hit at every hit, in the tracer's own thread, while the thread that
        hit is stopped. It may read and change registers, memory and the return. The Probe is its ``.probe``.
        """

        def decorate(callback: C) -> C:
            make = self._add_pending if pending else self._probe
            probe = make(spec, mode, rip, when, callback)
            callback.probe = probe  # type: ignore[attr-defined]
            return callback

        return decorate

    def instructions(self, spec: str | ProbeSpec) -> list[int]:
        """The addresses of every instruction of the functions that `spec` stands for, to give to ``probe()``."""
        found: set[int] = set()
        for place in self.places(spec):
            found.update(function_instructions(place, self.pid))
        return sorted(found)

    def places(self, spec: str | ProbeSpec | int) -> list[Place]:
        """The places in the process that a specification stands for now. SymbolNotFound, ModuleNotFound…"""
        if isinstance(spec, int):
            return [Place(spec)]
        return resolve(parse_spec(spec), self.modules, self.pid)

    def sites_are_current(self, probe: Probe) -> bool:
        """Whether the program that a probe was made in still runs."""
        return probe.generation == self._sites.generation

    def _add_pending(
        self,
        spec: str | ProbeSpec | int | Iterable[str | ProbeSpec | int],
        mode: str,
        rip: str,
        when: str | None,
        callback: Callback | None,
    ) -> PendingProbe:
        wanted: list[str | ProbeSpec | int] = [
            parse_spec(one) if isinstance(one, str) else one for one in _listed(spec)
        ]

        def insert(target: Target, places: list[Place]) -> Probe:
            return target._probe([place.vaddr for place in places], mode, rip, when, callback)

        return self._pending.add(wanted, insert)

    def _look_again(self) -> None:
        """In the owner thread: libraries came or went."""
        self._sites.check_ground()
        self._pending.look()

    def record(
        self,
        spec: str | ProbeSpec | int | Iterable[str | ProbeSpec | int],
        fields: Sequence[str] = (),
        when: str | None = None,
        mode: str = "auto",
        *,
        every: int = 1,
        limit: int | None = None,
    ) -> Recording:
        """Record every hit from now on: time, thread, place, and `fields`.

        `fields`: names of what to keep, 64 bits each: ``arg0`` …, registers as ``rdi``, ``retval`` (at a return),
        ``stack0`` … (the words from the stack pointer on). `when`: as for ``probe``. `every`: keep one hit in so many.
        `limit`: keep no more than so many hits. FieldError, PredicateError.
        """
        from uprobes.recording import Recording, make_plan, parse_fields

        predicate = _compile(when)
        names = [fields] if isinstance(fields, str) else list(fields)
        plan, board, order = make_plan(parse_fields(names), predicate.ops if predicate else (), every, limit)
        recording = Recording(board, plan, names, order)
        probe = self._insert(spec, mode, "auto", tap=self._sites.tap(plan, board))
        recording.start(probe, lambda: self._sites.over)
        probe.enable()
        return recording

    def latency(self, spec: str | ProbeSpec, when: str | None = None, mode: str = "auto") -> Latency:
        """Time functions from their entries to their exits, from now on.

        `spec`: one function, or a glob: functions that are not known to return are left out. `when`: time only calls
        for which this holds at the entry. SymbolNotFound: `spec` is no function, or it is not known where it returns.
        """
        from uprobes.latency import make_latency

        parsed = replace(parse_spec(spec), provider=Provider.UPROBE)
        predicate = _compile(when)
        latency, plan, board = make_latency(predicate)
        tap = self._sites.tap(plan, board)
        exits = self._insert(replace(parsed, provider=Provider.URETPROBE), mode, "auto", tap=tap)
        entries = self._insert(parsed, mode, "auto", tap=tap)
        latency.start(entries, exits, lambda: self._sites.over)
        latency.enable()
        return latency

    def _probe(
        self,
        spec: str | ProbeSpec | int | Iterable[str | ProbeSpec | int],
        mode: str,
        rip: str,
        when: str | None,
        callback: Callback | None,
    ) -> Probe:
        predicate = _compile(when)
        if predicate is not None and callback is None:
            board = Board(0)
            tap = self._sites.tap(HitPlan(shift=board.shift, ops=predicate.ops), board)
            probe = self._insert(spec, mode, rip, tap=tap, counts=True)
        else:
            probe = self._insert(spec, mode, rip, callback=callback, predicate=predicate)
        probe.enable()
        return probe

    def _insert(
        self, spec: str | ProbeSpec | int | Iterable[str | ProbeSpec | int], mode: str, rip: str, **wishes: Any
    ) -> Probe:
        """A probe with its sites, not yet enabled; `wishes` are for the Probe."""
        _require_choice("mode", mode, MODES)
        _require_choice("rip", rip, STRATEGIES)
        wanted = _listed(spec)
        places = self._places(wanted)
        insertion = self._sites.insert(places, mode, rip)
        if len(places) == 1 and insertion.refusals:
            raise _refused(places[0], insertion.refusals[0], self.pid)
        probe = Probe(self._sites, _name(wanted), places, insertion.numbers, insertion.refusals, **wishes)
        self._sites.adopt(probe)
        return probe

    def _places(self, wanted: Sequence[str | ProbeSpec | int]) -> Places:
        """Every place of every specification, each once, in order of address."""
        modules = self.modules
        found = [
            place for one in wanted if not isinstance(one, int) for place in resolve(parse_spec(one), modules, self.pid)
        ]
        return Places(found, (one for one in wanted if isinstance(one, int)), modules)

    # ---- what the owner thread tells

    def on_hit(self, tid: int, site: int) -> bool:
        """Run the callbacks of a site; whether one changed a register."""
        registers = Registers(self._owner.tracer)
        try:
            for probe in self._sites.watchers(site):
                probe.serve(self._owner.tracer, site, tid, registers)
        except BaseException as error:
            # Restore first, then report: run(), or the end of the with block, raises it.
            self._fail(error)
        return registers.changed

    def _fail(self, error: BaseException) -> None:
        """In the owner thread: leave the whole family, and keep the error for who attached."""
        first = self
        while first.parent is not None:
            first = first.parent
        first._failure = error
        for one in first.family:
            if one.alive:
                one._owner.end(one._sites.leave)

    def on_child(self, tracer: Tracer) -> None:
        """A child that is followed is a target, too."""
        child = Target(tracer.pid, seal=self._seal, children=self._policy, parent=self, tracer=tracer)
        if tracer.site_count:
            child._sites.inherit(self._sites)
        child._pending.inherit(self._pending, child._sites.probes)
        self.children.append(child)

    def on_area_lost(self) -> None:
        """Make the slot area again where it was: threads are on their way to it."""
        self._sites.restore_areas()

    def on_exec(self) -> None:
        """Another program runs; the sites are gone with the old one."""
        self._sites.forget_all()
        self._pending.forget_all()
        self._owner.tracer.open_memory()
        if self._kept or self._pending:
            self._owner.tracer.run_to(entry_vaddr(self.pid))
        self._pending.look()
        if self._kept:
            self._at_entry.set()
        else:
            self._owner.tracer.set_off()

    def on_tracer_lost(self) -> BaseException:
        """The tracer was killed: take its changes back in its place."""
        _live.discard(self)
        try:
            recovery = undo(self._sites.journal) if self._sites.journal else None
        except (UprobeError, OSError) as error:
            self._failure = TracerLost(self.pid, None)
            self._failure.__cause__ = error
        else:
            self._failure = TracerLost(self.pid, recovery is None or recovery.complete)
        return self._failure

    def on_end(self, exit_code: int, exit_signal: int) -> None:
        """The process ended by itself."""
        self._sites.close_journal()
        self.exit_code = -exit_signal if exit_signal else exit_code
        self._at_entry.set()
        _live.discard(self)


def attach(pid: int, *, seal: bool = True, children: str = "clean", budget: float | None = None) -> Target:
    """Trace a running process. Its threads do not notice: none is stopped.

    seal: slot areas, made when the first slot is needed, are protected from the process itself (mseal, Linux 6.10) and
    stay mapped, empty, after a detach, for the next attach. seal=False: detach leaves nothing mapped.
    children: ``clean`` gives every child that it makes the original text back and lets it go; ``follow`` makes each a
    Target (``target.children``), where the probes live on and count for themselves.
    budget: what share of the time hits may keep the process stopped, as 0.1. Over it, the hottest sites are switched
    off for a while (``probe.throttled``, ``probe.lost``). None: every hit is served and counts are exact, whatever it
    costs.

    Raises TargetGone (no such process), NotPermitted or AlreadyTraced (with what would help), UnsupportedTarget (32-bit
    code, a kernel thread, ourselves).
    """
    _require_choice("children", children, CHILDREN)
    _require_budget(budget)
    target = Target(pid, seal=seal, children=children, budget=budget)
    target._start()
    return target


def spawn(
    argv: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    stdin: int = -1,
    stdout: int = -1,
    stderr: int = -1,
    children: str = "clean",
    budget: float | None = None,
) -> Target:
    """Start a program and trace it from its entry point on, where it waits, its libraries loaded, until ``run()`` or
    ``resume()``.

    `argv[0]` is looked up in PATH; `stdin`, `stdout`, `stderr` are file descriptors (-1: inherited). The process is a
    child of ours: ``exit_code`` tells how it ended. `children`, `budget`: as in ``attach()``.
    """
    _require_choice("children", children, CHILDREN)
    _require_budget(budget)
    words = [os.fsencode(word) for word in argv]
    if not words:
        raise UprobeError("cannot start a program: no arguments", hint="spawn(['/bin/true'])")
    path = shutil.which(os.fsdecode(words[0]))
    if path is None:
        raise UprobeError(f"cannot start {os.fsdecode(words[0])}: no such program", hint="give its path")
    words[0] = os.fsencode(path)
    variables = os.environ if env is None else env
    environment = [os.fsencode(f"{name}={value}") for name, value in variables.items()]
    sys.stdout.flush()
    pid = core_spawn.start(words, environment, None if cwd is None else os.fsencode(cwd), (stdin, stdout, stderr))
    target = Target(pid, children=children, budget=budget)
    target._kept = True
    try:
        target._start()
        os.kill(pid, signal.SIGCONT)
        target._at_entry.wait()
        if target.exit_code is not None:
            raise UprobeError(f"cannot start {path}: it ended with {target.exit_code} before its first instruction")
    except BaseException:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        raise
    return target


def _compile(when: str | None) -> Predicate | None:
    """The condition of a probe."""
    if when is None:
        return None
    from uprobes.predicate import compile_predicate

    return compile_predicate(when)


def parse_spec(spec: str | ProbeSpec) -> ProbeSpec:
    """A specification from its text."""
    return parse(spec) if isinstance(spec, str) else spec


def _listed(spec: str | ProbeSpec | int | Iterable[str | ProbeSpec | int]) -> list[str | ProbeSpec | int]:
    """One specification or several, as a list."""
    return [spec] if isinstance(spec, str | int | ProbeSpec) else list(spec)


def _name(wanted: Sequence[str | ProbeSpec | int]) -> str:
    """How a probe is called: its specification, or the first of them and how many more."""
    first = hex(wanted[0]) if wanted and isinstance(wanted[0], int) else str(wanted[0]) if wanted else "nothing"
    return first if len(wanted) <= 1 else f"{first} and {len(wanted) - 1} more"


def _require_choice(name: str, value: str, choices: Mapping[str, object]) -> None:
    if value not in choices:
        raise UprobeError(f"{name} {value!r}: no such {name}", hint=f"one of {', '.join(choices)}")


def _require_budget(budget: float | None) -> None:
    if budget is not None and not 0 < budget <= 1:
        raise UprobeError(f"budget {budget!r}: not a share of the time", hint="from 0.001 to 1, or None for no limit")


def _refused(place: Place, refusal: Refusal, pid: int) -> ProbeRefused:
    """The exception for a place that was the only one asked for."""
    fact, hint = refusal.sentence, refusal.hint
    if refusal is Refusal.INSIDE and (insn := enclosing_instruction(place, pid)) is not None:
        names = neighbours(place, insn)
        fact = f"the address is inside the instruction at {names[0]} ({insn.bytes.hex(' ')}, {insn.length} bytes)"
        hint = f"probe {names[0]} or {names[1]}"
    return ProbeRefused(
        refusal,
        address=place.vaddr,
        module=place.module and place.module.rpartition("/")[2],
        symbol=place.symbol,
        offset=place.offset,
        fact=fact,
        hint=hint,
    )


@atexit.register
def _detach_all() -> None:
    """The interpreter ends: leave every target as it was."""
    for target in list(_live):
        target.detach()
