"""Proves on this machine's processor that instructions run out of line as they run in place.

Takes the instructions known to be hard and more forms drawn from a seed, runs each natively and in every way that the
planner knows, from the same registers and memory, and compares everything that it can have changed.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain

from uprobe_core.x86.relocate import Plan, plan
from uprobes.errors import SandboxError
from uprobes.refusal import Refusal
from uprobes.selftest.forms import Form, forms
from uprobes.selftest.hard import HARD
from uprobes.selftest.judge import AccessError, Judge, Result, Variant
from uprobes.selftest.sandbox import SITE_IP, Sandbox
from uprobes.selftest.state import State, StateMaker

_HYPERCALLS = (bytes.fromhex("0f 01 c1"), bytes.fromhex("0f 01 d9"))
"""Instructions that speak to a hypervisor: not ours to try."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An instruction that ended differently out of line."""

    code: bytes
    variant: Variant
    differences: list[str]

    def __str__(self) -> str:
        """Bytes, way and differences in one line."""
        return f"{self.code.hex(' ')}: {self.variant}: {'; '.join(self.differences)}"


@dataclass(slots=True)
class Report:
    """What was run and how it ended."""

    forms: int = 0
    """Distinct instructions that ran natively."""
    faulted: int = 0
    """Of these: raised a signal."""
    runs: Counter[str] = field(default_factory=Counter)
    """Runs out of line by the plan's kind; all but the failures ended as the native run did."""
    interruptions: int = 0
    """Runs that were taken out of the slot on the way, as for a signal."""
    refused: Counter[Refusal] = field(default_factory=Counter)
    """Plans that were refused."""
    unsettled: int = 0
    """Instructions whose native runs differ among themselves, such as rdtsc: nothing to compare with."""
    failures: list[Failure] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """The report in words."""
        total = sum(self.runs.values())
        return [
            f"{self.forms} instruction forms, {self.faulted} of them faulting, {self.unsettled} unsettled",
            f"{total} runs out of line and {self.interruptions} interrupted ones, {len(self.failures)} differ",
            *(f"  {count:7} {kind}" for kind, count in self.runs.most_common()),
            *(f"  {count:7} refused: {refusal.sentence}" for refusal, count in self.refused.most_common()),
            *map(str, self.failures),
        ]


class SelfTest:
    """One run over `count` forms from `seed`. The same seed gives the same forms."""

    def __init__(self, count: int, seed: int = 0) -> None:
        """Nothing runs yet."""
        self._count = count
        self._seed = seed
        self._report = Report()
        self._sandbox: Sandbox | None = None

    def run(self) -> Report:
        """Run it. Seconds for thousands of forms. Raises SandboxError where a child cannot be traced.

        The calling thread stays on one processor meanwhile: a stop costs a fifth when both sides share it.
        """
        allowed = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(allowed)})
        try:
            self._renew()
            seen: set[bytes] = set()
            for form in chain(HARD.values(), forms(self._seed)):
                if self._report.forms == self._count:
                    break
                code = _instruction(form)
                if code is not None and code not in seen:
                    seen.add(code)
                    self._try(code, form)
        finally:
            self._close()
            os.sched_setaffinity(0, allowed)
        return self._report

    def _renew(self) -> None:
        self._close()
        self._sandbox = Sandbox()
        self._states = StateMaker(self._sandbox, self._seed)
        self._judge = Judge(self._sandbox)

    def _close(self) -> None:
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None

    def _try(self, code: bytes, form: Form) -> None:
        state = self._states.make(control=form.control)
        native = self._judge.native(code, state)
        self._report.forms += 1
        self._report.faulted += native.signal != 0
        for variant, made in self._judge.plans(code):
            if made.refusal:
                self._report.refused[Refusal(made.refusal)] += 1
            elif made.kind_name != "step in place":
                self._compare(code, state, variant, made, native)

    def _compare(self, code: bytes, state: State, variant: Variant, made: Plan, native: Result) -> None:
        self._report.runs[made.kind_name] += 1
        try:
            differences = self._judge.out_of_line(code, state, variant).differences(native)
            for boundary in self._judge.boundaries(code, state, variant) if not native.signal else ():
                self._report.interruptions += 1
                differences += self._judge.interrupted(code, state, variant, boundary).differences(native)
        except AccessError as error:
            differences = [] if native.signal else [str(error)]
        except SandboxError as error:
            differences = [str(error)]
            self._renew()
        if not differences:
            return
        if self._judge.native(code, state).differences(native):
            self._report.unsettled += 1
        else:
            self._report.failures.append(Failure(code, variant, differences))


def _instruction(form: Form) -> bytes | None:
    """The form's instruction without what follows it; None where there is none to try."""
    try:
        made = plan(form.code, SITE_IP)
    except ValueError:
        return None
    return None if any(call in made.original for call in _HYPERCALLS) else made.original
