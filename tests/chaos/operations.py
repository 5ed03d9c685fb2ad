"""What chaos does to a program: random insertions, removals, signals and leaves, as many as there is time for."""

import os
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random

import uprobes
from tests.chaos.programs import Program
from tests.process import executable_text

# Sent to programs that do not care: their default is to be ignored.
HARMLESS = (signal.SIGURG, signal.SIGWINCH, signal.SIGCONT)
INSTRUCTIONS = 40  # places inside a function that are probed at once


class Chaos:
    """Random operations on one program; the seed decides which, the machine how they fall together."""

    def __init__(self, program: Program, random: Random) -> None:
        """`done` counts operations by kind, and what they ended in."""
        self.program = program
        self.random = random
        self.done: Counter[str] = Counter()
        self.hits = 0
        self._probes: list[uprobes.Probe] = []

    def run(self, seconds: float) -> None:
        """Attach and leave again and again, until the program has ended or the time is up."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.program.over:
            pid = self.random.choice(list(process_tree(self.program.pid)))
            try:
                self._visit(pid)
            except uprobes.TargetGone:
                self.done["gone"] += 1
            except uprobes.AlreadyTraced:
                self.done["traced"] += 1
            except uprobes.UprobeError:
                if alive(pid):
                    raise
                self.done["ended"] += 1

    def _visit(self, pid: int) -> None:
        before = text_of(pid)
        target = uprobes.attach(pid, children=self.random.choice(["clean", "follow"]))
        self.done["attach"] += 1
        try:
            for _ in range(self.random.randrange(1, 16)):
                if not target.alive:
                    break
                self._operate(target)
        finally:
            target.detach()
            self.hits += sum(probe.hits for probe in self._probes)
            self._probes.clear()
        self._compare(before, text_of(pid))

    def _operate(self, target: uprobes.Target) -> None:
        kind = self.random.choices(
            ["insert", "inside", "watch", "remove", "toggle", "stop", "signal", "wait"], [6, 3, 2, 5, 5, 1, 2, 6]
        )[0]
        self.done[kind] += 1
        probe = self.random.choice(self._probes) if self._probes else None
        mode = self.random.choice(["auto", "trap", "step"])
        spec = self.random.choice(self.program.specs)
        # Short-lived programs of a shell have not all of these; some places are refused.
        with suppress(uprobes.SymbolNotFound, uprobes.ModuleNotFound, uprobes.ProbeRefused, uprobes.AmbiguousSymbol):
            if kind == "insert":
                self._probes.append(target.probe(spec, mode=mode))
            elif kind == "inside":
                places = target.instructions(spec)
                chosen = self.random.sample(places, min(INSTRUCTIONS, len(places)))
                self._probes.append(target.probe(chosen, mode=mode))
            elif kind == "watch":
                watch = target.on(spec, mode=self.random.choice(["trap", "step"]))
                self._probes.append(watch(lambda hit: hit.args[0]).probe)
            elif kind == "remove" and probe is not None:
                self._probes.remove(probe)
                self.hits += probe.hits
                probe.remove()
            elif kind == "toggle" and probe is not None:
                (probe.disable if probe.enabled else probe.enable)()
            elif kind in {"stop", "signal"}:
                self._signal(target.pid, kind)
            elif kind == "wait":
                time.sleep(self.random.uniform(0, 0.01))

    def _signal(self, pid: int, kind: str) -> None:
        with suppress(ProcessLookupError):
            if kind == "signal":
                os.kill(pid, self.random.choice(HARMLESS))
                return
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self.random.uniform(0, 0.01))
            os.kill(pid, signal.SIGCONT)

    def _compare(self, before: dict[tuple[int, int, str], str], after: dict[tuple[int, int, str], str]) -> None:
        """Text that was there before and is there still has the same bytes."""
        changed = [place for place in before.keys() & after.keys() if before[place] != after[place]]
        assert not changed, f"{self.program.name}: text differs after a detach: {changed}"
        self.done["compared"] += bool(before.keys() & after.keys())


def alive(pid: int) -> bool:
    """Whether a process is there, and not merely waited for."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def text_of(pid: int) -> dict[tuple[int, int, str], str]:
    """A digest of its text; nothing where it is ending: its memory reads as empty then."""
    with suppress(OSError, ValueError):
        text = executable_text(pid)
        if alive(pid):
            return text
    return {}


def process_tree(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for one in found:
        with suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found
