"""A running process under our eyes: attaching, probing, serving callbacks, and leaving without a trace."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import sys
import threading
import weakref
from typing import TYPE_CHECKING, TypeVar

from uprobe_core.linux import spawn as core_spawn
from uprobes.boundaries import enclosing_instruction, function_instructions, neighbours
from uprobes.errors import ProbeRefused, UprobeError
from uprobes.hit import Memory, Registers
from uprobes.owner import CHILDREN, Owner
from uprobes.permission import explain_refusal, require_traceable
from uprobes.places import Places
from uprobes.probe import Probe
from uprobes.process import entry_vaddr
from uprobes.refusal import Refusal
from uprobes.resolve import resolve
from uprobes.sites import MODES, STRATEGIES, SiteTable
from uprobes.spec import ProbeSpec, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from uprobe_core.trace.tracer import Tracer
    from uprobes.place import Place
    from uprobes.probe import Callback
    from uprobes.process import Module

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
        parent: Target | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """Use ``attach()`` or ``spawn()``."""
        _require_choice("children", children, CHILDREN)
        self.pid = pid
        self.parent = parent
        """Of a child that is followed: the target that made it."""
        self.children: list[Target] = []
        """With ``children="follow"``: those that it has made since it is traced, ended ones included."""
        self._policy = children
        self.exit_code: int | None = None
        """After the process has ended by itself: its exit code, or the negative number of the signal that ended it."""
        self._failure: BaseException | None = None
        self._kept = False
        self._at_entry = threading.Event()
        self._owner: Owner = Owner(pid, self, None if parent is None else parent._owner, tracer)
        self._sites: SiteTable
        if parent is not None and self._owner.tracer.site_count:
            self._sites = SiteTable.of_child(parent._sites, self._owner, pid)
        else:
            self._sites = SiteTable(self._owner, pid, seal=seal)

    # ---- life

    def _start(self) -> None:
        require_traceable(self.pid)
        try:
            self._owner.start_tracing(apart=_tracer_apart(), children=self._policy)
        except OSError as error:
            raise explain_refusal(self.pid, error) from error
        _live.add(self)

    @property
    def alive(self) -> bool:
        """Whether the process is there and we trace it."""
        return not self._owner.ended.is_set()

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
        """Serve callbacks until the process, and all children of it that are followed, have ended, or `timeout` seconds
        have passed.

        An exception in a callback takes all probes back and is raised here. Counting goes on without ``run()``.
        """
        self.resume()
        self._owner.wait(lambda: any(target._failure for target in self.kin()) or not self._any_alive(), timeout)
        self._raise_failure()

    def kin(self) -> Iterator[Target]:
        """The target itself, its followed children, and theirs."""
        yield self
        for child in self.children:
            yield from child.kin()

    def _any_alive(self) -> bool:
        return any(target.alive for target in self.kin())

    def detach(self) -> None:
        """Put all text back, byte for byte, and let go, of followed children too. Nothing of ours runs in the process
        any more.
        """
        self.resume() if self.alive else None
        # Children may be born until their parent is left: the list grows while it is gone through.
        for target in self.kin():
            target._owner.close(target._sites.leave)
            _live.discard(target)

    def _raise_failure(self) -> None:
        for target in self.kin():
            failure, target._failure = target._failure, None
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

    @property
    def probes(self) -> list[Probe]:
        """Those that have not been removed, in the order in which they were made."""
        return list(self._sites.probes)

    def probe(
        self,
        spec: str | ProbeSpec | int | Iterable[str | ProbeSpec | int],
        mode: str = "auto",
        rip: str = "auto",
        when: str | None = None,
    ) -> Probe:
        """Count how often places are reached, from now on.

        `spec`: one specification (a glob gives many sites), an address, or several of them. `mode`: ``auto``, ``trap``
        or ``step``; `rip`: the answer to RIP-relative operands, ``auto``, ``scratch``, ``segment`` or
        ``displacement``. `when`: count only hits for which this expression over arguments and registers holds, as
        ``arg2 > 4096 and arg0 != 0``.

        Of a glob, sites that cannot be probed are left out and say why (``site.refusal``); a single place that
        cannot be probed raises ProbeRefused.
        """
        return self._probe(spec, mode, rip, when, None)

    def on(
        self,
        spec: str | ProbeSpec | int | Iterable[str | ProbeSpec | int],
        mode: str = "auto",
        rip: str = "auto",
        when: str | None = None,
    ) -> Callable[[C], C]:
        """Decorate a function that is called with a Hit at every hit, in the tracer's own thread, while the thread that
        hit is stopped. It may read and change registers, memory and the return. The Probe is its ``.probe``.
        """

        def decorate(callback: C) -> C:
            probe = self._probe(spec, mode, rip, when, callback)
            callback.probe = probe  # type: ignore[attr-defined]
            return callback

        return decorate

    def instructions(self, spec: str | ProbeSpec) -> list[int]:
        """The addresses of every instruction of the functions that `spec` stands for, to give to ``probe()``."""
        found: set[int] = set()
        for place in resolve(parse_spec(spec), self.modules, self.pid):
            found.update(function_instructions(place, self.pid))
        return sorted(found)

    def _probe(
        self,
        spec: str | ProbeSpec | int | Iterable[str | ProbeSpec | int],
        mode: str,
        rip: str,
        when: str | None,
        callback: Callback | None,
    ) -> Probe:
        _require_choice("mode", mode, MODES)
        _require_choice("rip", rip, STRATEGIES)
        predicate = None
        if when is not None:
            from uprobes.predicate import compile_predicate

            predicate = compile_predicate(when)
        wanted = [spec] if isinstance(spec, str | int | ProbeSpec) else list(spec)
        places = self._places(wanted)

        def insert() -> Probe:
            insertion = self._sites.insert(places, mode, rip)
            if len(places) == 1 and insertion.refusals:
                raise _refused(places[0], insertion.refusals[0], self.pid)
            name = _name(wanted)
            probe = Probe(self._sites, name, places, insertion.numbers, insertion.refusals, callback, predicate)
            self._sites.adopt(probe)
            probe.enable()
            return probe

        # In one piece: a child that is born meanwhile has either the whole probe or nothing of it.
        return self._owner.call(insert)

    def _places(self, wanted: Sequence[str | ProbeSpec | int]) -> Places:
        """Every place of every specification, each once, in order of address."""
        modules = self.modules
        found = [
            place
            for one in wanted
            if not isinstance(one, int)
            for place in resolve(parse_spec(one), modules, self.pid)
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
            self._failure = error
            self._owner.end(self._sites.leave)
        return registers.changed

    def on_area_lost(self) -> None:
        """Make the slot area again where it was: threads are on their way to it."""
        self._sites.areas.restore()

    def on_child(self, tracer: Tracer) -> None:
        """A child that is to be followed has been born: it has the same probes, and counts of its own."""
        child = Target(tracer.pid, children=self._policy, parent=self, tracer=tracer)
        self.children.append(child)
        _live.add(child)

    def on_exec(self) -> None:
        """Another program runs; the sites are gone with the old one."""
        self._sites.forget_all()
        self._owner.tracer.open_memory()
        if self._kept:
            self._owner.tracer.run_to(entry_vaddr(self.pid))
            self._at_entry.set()
        else:
            self._owner.tracer.set_off()

    def on_end(self, exit_code: int, exit_signal: int) -> None:
        """The process ended by itself."""
        self.exit_code = -exit_signal if exit_signal else exit_code
        self._at_entry.set()
        _live.discard(self)


def attach(pid: int, *, seal: bool = True, children: str = "clean") -> Target:
    """Trace a running process. Its threads do not notice: none is stopped.

    children: what becomes of the children that it makes from now on. ``clean``: they get the original text and are let
    go; ``follow``: each becomes a target of its own, in ``Target.children``, with the same probes, which count there
    from 0. One that executes another program has no probes any more.

    seal: slot areas, made when the first slot is needed, are protected from the process itself (mseal, Linux 6.10) and
    stay mapped, empty, after a detach, for the next attach. seal=False: detach leaves nothing mapped.

    Raises TargetGone (no such process), NotPermitted or AlreadyTraced (with what would help), UnsupportedTarget (32-bit
    code, a kernel thread, ourselves).
    """
    target = Target(pid, seal=seal, children=children)
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
) -> Target:
    """Start a program and trace it from its entry point on, where it waits, its libraries loaded, until ``run()`` or
    ``resume()``.

    `argv[0]` is looked up in PATH; `stdin`, `stdout`, `stderr` are file descriptors (-1: inherited). The process is a
    child of ours: ``exit_code`` tells how it ended. children: as for ``attach()``.
    """
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
    target = Target(pid, children=children)
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


def parse_spec(spec: str | ProbeSpec) -> ProbeSpec:
    """A specification from its text."""
    return parse(spec) if isinstance(spec, str) else spec


def _name(wanted: Sequence[str | ProbeSpec | int]) -> str:
    """How a probe is called: its specification, or the first of them and how many more."""
    first = hex(wanted[0]) if wanted and isinstance(wanted[0], int) else str(wanted[0]) if wanted else "nothing"
    return first if len(wanted) <= 1 else f"{first} and {len(wanted) - 1} more"


def _require_choice(name: str, value: str, choices: Mapping[str, object]) -> None:
    if value not in choices:
        raise UprobeError(f"{name} {value!r}: no such {name}", hint=f"one of {', '.join(choices)}")


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


def _tracer_apart() -> bool:
    """Whether a process of its own may trace for us. Yama's scope 1 lets only ancestors, unless root."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/yama/ptrace_scope") as scope:
        return scope.read().strip() != "1" or os.geteuid() == 0
    return True


@atexit.register
def _detach_all() -> None:
    """The interpreter ends: leave every target as it was."""
    for target in list(_live):
        target.detach()
