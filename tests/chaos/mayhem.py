"""What is done to a program: probes come and go, it is stopped, woken and let go, and those who trace it are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress

import uprobes
from tests.process import ENVIRONMENT

BUDGET = 0.4
KILLED_TRACER = """
import sys, time, uprobes
target = uprobes.attach(int(sys.argv[1]), budget=0.4)
for glob in sys.argv[2:]:
    try:
        target.probe(glob)
    except uprobes.UprobeError:
        pass
print("in", flush=True)
time.sleep(60)
"""


class Mayhem:
    """Random operations on process `pid`, by a seed; `done` counts them by name."""

    def __init__(self, pid: int, globs: tuple[str, ...], seed: int) -> None:
        """Nothing is done yet."""
        self.pid = pid
        self.globs = globs
        self.chance = random.Random(seed)  # noqa: S311
        self.done: Counter[str] = Counter()
        self.target: uprobes.Target | None = None
        self.probes: list[object] = []

    def run(self, seconds: float) -> None:
        """Until the time is up or the program has ended; then it is left alone."""
        until = time.monotonic() + seconds
        operations = [
            (self.attach, 2), (self.insert, 8), (self.insert_instructions, 3), (self.insert_callback, 3),
            (self.toggle, 12), (self.remove, 6), (self.stop_and_wake, 2), (self.signal, 3), (self.detach, 1),
            (self.kill_tracer, 0.15),
        ]  # fmt: skip
        try:
            while time.monotonic() < until:
                (operation,) = self.chance.choices([each for each, _ in operations], [w for _, w in operations])
                try:
                    operation()
                except uprobes.TargetGone:
                    return
                except uprobes.UprobeError:
                    self.done["refused"] += 1
                self.done[operation.__name__] += 1
        finally:
            self.detach()

    def traced(self) -> uprobes.Target:
        """The target, attached to if it is not."""
        if self.target is None or not self.target.alive:
            self.probes.clear()
            children = self.chance.choice(["clean", "follow"])
            self.target = uprobes.attach(
                self.pid, children=children, budget=BUDGET, seal=self.chance.random() < 0.7
            )  # fmt: skip
        return self.target

    def attach(self) -> None:
        self.detach()
        self.traced()

    def detach(self) -> None:
        target, self.target = self.target, None
        self.probes.clear()
        if target is not None:
            target.detach()

    def mode(self) -> str:
        return self.chance.choice(["auto", "auto", "trap", "step"])

    def insert(self) -> None:
        pending = self.chance.random() < 0.2
        self.probes.append(self.traced().probe(self.chance.choice(self.globs), mode=self.mode(), pending=pending))

    def insert_instructions(self) -> None:
        target = self.traced()
        place = self.chance.choice(target.places(self.chance.choice(self.globs)))
        inside = target.instructions(hex(place.vaddr))
        self.probes.append(target.probe(self.chance.sample(inside, min(len(inside), 8)), mode=self.mode()))

    def insert_callback(self) -> None:
        def look(hit: uprobes.Hit) -> None:
            hit.args[0]

        target = self.traced()
        place = self.chance.choice(target.places(self.chance.choice(self.globs)))
        self.probes.append(target.on(hex(place.vaddr), mode=self.mode())(look).probe)

    def toggle(self) -> None:
        if self.probes:
            probe = self.chance.choice(self.probes)
            probe.disable() if probe.enabled else probe.enable()

    def remove(self) -> None:
        if self.probes:
            self.probes.pop(self.chance.randrange(len(self.probes))).remove()

    def stop_and_wake(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGSTOP)
            time.sleep(self.chance.random() * 0.01)
            os.kill(self.pid, signal.SIGCONT)

    def signal(self) -> None:
        """One that is ignored unless a program says otherwise; that alone interrupts what it is at."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGWINCH)

    def kill_tracer(self) -> None:
        """Another tracing program, which gets SIGKILL in the middle."""
        self.detach()
        globs = self.chance.sample(self.globs, 2)
        command = [sys.executable, "-c", KILLED_TRACER, str(self.pid), *globs]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT) as tracer:
            tracer.stdout.readline()
            time.sleep(self.chance.random() * 0.02)
            tracer.kill()
        deadline = time.monotonic() + 20
        while is_traced(self.pid) and time.monotonic() < deadline:
            time.sleep(0.002)


def is_traced(pid: int) -> bool:
    """Whether somebody traces a process."""
    with suppress(OSError), open(f"/proc/{pid}/status") as status:
        return any(line.startswith("TracerPid:") and line.split()[1] != "0" for line in status)
    return False
