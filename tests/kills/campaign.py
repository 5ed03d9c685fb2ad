"""Kills, one after the other, and what the target says to each."""

import contextlib
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

import uprobes
from tests.kills.host import FAILED, PHASES, host
from tests.process import executable_text, tracer_pid, wait_until
from tests.victim import Victim, VictimBuilder, VictimError
from uprobes import journal

KILLED = ("tracer", "host", "both", "host, then tracer")
CLEAN_SECONDS = 5.0  # for a busy machine; on an idle one it is milliseconds
TRAP_BIT = 1 << 4


@dataclass
class Outcome:
    """What became of the targets."""

    kills: int = 0
    lost: list[str] = field(default_factory=list)
    """Targets that died, or gave a wrong result, or kept a byte of ours: at which kill, and how."""
    by_kind: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    """What all targets did, in rounds of all shapes."""


class Campaign:
    """Kills at random instants, reproducible but for the instants."""

    def __init__(self, builder: VictimBuilder, mode: str, seed: int) -> None:
        """`mode` of all probes."""
        self._program = builder.build("killed")
        self._mode = mode
        self._chance = random.Random(seed)  # noqa: S311
        self.outcome = Outcome()

    def run(self, kills: int, per_target: int = 25) -> Outcome:
        """That many kills, with a new target now and then."""
        while self.outcome.kills < kills:
            interval = self._chance.choice([0, 0, 200_000])  # every third target has a signal storm, too
            with Victim([str(self._program), str(interval)]) as target:
                self._use(target, min(per_target, kills - self.outcome.kills))
        return self.outcome

    def _use(self, target: Victim, kills: int) -> None:
        before = executable_text(target.pid)
        what = "start"
        try:
            for _ in range(kills):
                phase, who = self._chance.choice(list(PHASES)), self._chance.choice(KILLED)
                what = f"kill {self.outcome.kills} of {who} in {phase}"
                self.outcome.kills += 1
                self.outcome.by_kind[f"{who} in {phase}"] += 1
                self._kill(target, phase, who)
                self._require_clean(target, before)
                target.order(1)
                target.wait_line("rounds", 20)
            reports = target.finish()
            self.outcome.rounds += reports["rounds"]
            if reports["wrong"]:
                self.outcome.lost.append(f"up to {what}: {reports['wrong']} wrong results")
        except (VictimError, AssertionError, uprobes.UprobeError, OSError) as error:
            self.outcome.lost.append(f"{what}: {type(error).__name__}: {error}")

    def _kill(self, target: Victim, phase: str, who: str) -> None:
        with host(target.pid, self._mode, phase) as pid:
            time.sleep(self._chance.random() * (0.06 if phase == "cycle" else 0.01))
            tracer = tracer_pid(target.pid)
            if who == "both":
                os.kill(pid, signal.SIGSTOP)  # or it would put things right at once
            if who in ("tracer", "both") and tracer:
                os.kill(tracer, signal.SIGKILL)
            if who != "tracer":
                os.kill(pid, signal.SIGKILL)
            if who == "host, then tracer" and tracer:
                time.sleep(self._chance.random() * 0.001)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(tracer, signal.SIGKILL)
            if who == "tracer" and tracer:
                _, status = os.waitpid(pid, 0)
                assert os.waitstatus_to_exitcode(status) != FAILED, "the host failed"
                if journal.find_dead(target.pid):  # what it could not do at once
                    self.outcome.by_kind["recovered later"] += 1
                    uprobes.recover(target.pid)
        if who in ("both", "host, then tracer"):
            wait_until(lambda: tracer_pid(target.pid) in (0, pid), "nobody traces the target")
            time.sleep(self._chance.random() * 0.02)  # it goes on without help
            uprobes.recover(target.pid)

    def _require_clean(self, target: Victim, before: dict[tuple[int, int, str], str]) -> None:
        def clean() -> bool:
            return (
                tracer_pid(target.pid) == 0
                and executable_text(target.pid) == before
                and not journal.find(target.pid)
                and not _caught(target.pid) & TRAP_BIT
            )

        try:
            wait_until(clean, "the target is clean", CLEAN_SECONDS)
        except AssertionError as error:
            text = executable_text(target.pid) == before
            raise AssertionError(
                f"{error}: tracer {tracer_pid(target.pid)}, text clean {text}, journals {journal.find(target.pid)}, "
                f"handler {bool(_caught(target.pid) & TRAP_BIT)}"
            ) from error


def _caught(pid: int) -> int:
    """The signals for which process `pid` has handlers."""
    with open(f"/proc/{pid}/status") as status:
        return int(next(line.split()[1] for line in status if line.startswith("SigCgt:")), 16)
