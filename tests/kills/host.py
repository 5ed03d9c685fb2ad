"""The program around the tracer, as a child process that is there to be killed: it does one thing again and again."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator

import uprobes

SHAPES = "killed:shape_*"
DONE, LOST, FAILED = 0, 3, 1
"""How a host that was not killed itself ends: LOST after it was told that its tracer is no more."""


def stand(target: uprobes.Target, probe: uprobes.Probe) -> None:
    """Hits come, and nothing else happens."""
    target.run(timeout=60)


def toggle(target: uprobes.Target, probe: uprobes.Probe) -> None:
    """Patches go out and in."""
    while True:
        probe.disable()
        probe.enable()


def replace(target: uprobes.Target, probe: uprobes.Probe) -> None:
    """Sites are removed, and others made in their slots."""
    places = [site.address for site in probe.sites]
    while True:
        probe.remove()
        probe = target.probe(places, mode="trap" if probe.sites[0].mode == "step" else "auto")


def call(target: uprobes.Target, probe: uprobes.Probe) -> None:
    """The target is asked for system calls."""
    owner, areas = target._owner, target._sites.areas
    while True:
        assert owner.call(lambda: areas.system_call("getpid")) == target.pid


def look(target: uprobes.Target, probe: uprobes.Probe) -> None:
    """Hits are looked at by a callback, which changes nothing but a register that nobody reads."""

    @target.on("killed:shape_nop", mode=probe.sites[0].mode)
    def _(hit: uprobes.Hit) -> None:
        hit.regs.rdx = 7

    target.run(timeout=60)


def leave(target: uprobes.Target, probe: uprobes.Probe) -> None:
    """Nothing: it detaches, and the next round begins."""


PHASES: dict[str, Callable[[uprobes.Target, uprobes.Probe], None]] = {
    "hits": stand, "toggle": toggle, "replace": replace, "calls": call, "callback": look, "cycle": leave,
}  # fmt: skip


def _work(pid: int, mode: str, phase: str, ready: int, spec: str) -> None:
    while True:
        with uprobes.attach(pid) as target:
            probe = target.probe(target.instructions(spec), mode=mode)
            if phase != "cycle":
                os.write(ready, b"r")
            PHASES[phase](target, probe)
            time.sleep(0.002)


@contextlib.contextmanager
def host(pid: int, mode: str, phase: str, spec: str = SHAPES) -> Iterator[int]:
    """A host at work on process `pid`: its pid, when it is in its phase. It is gone at the end."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = FAILED
        try:
            os.close(reader)
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            if phase == "cycle":
                os.write(writer, b"r")
            _work(pid, mode, phase, writer, spec)
        except uprobes.TracerLost:
            code = LOST
        except BaseException as error:
            os.write(2, f"host of {pid} in {phase}: {error!r}\n".encode())
        finally:
            os._exit(code)
    os.close(writer)
    try:
        os.read(reader, 1)
        yield child
    finally:
        os.close(reader)
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
