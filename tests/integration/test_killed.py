"""The program around the tracer gets SIGKILL while hits are in flight: the target goes on, correct and clean."""

import os
import random
import signal
import subprocess
import sys

import pytest

from tests.process import ENVIRONMENT, executable_text, tracer_pid, wait_until

TRACER = """
import sys, time, uprobes
target = uprobes.attach(int(sys.argv[1]))
probe = target.probe("spin:work", mode=sys.argv[2])
print("probing", flush=True)
time.sleep(100)
"""
ROUNDS = 8


@pytest.mark.parametrize("mode", ["jump", "trap", "step"])
def test_the_target_survives_and_is_clean(victim, mode):
    chance = random.Random(7)  # noqa: S311
    spin = victim("spin")
    before = executable_text(spin.pid)
    for _ in range(ROUNDS):
        tracer = subprocess.Popen(
            [sys.executable, "-c", TRACER, str(spin.pid), mode],
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        assert tracer.stdout.readline() == "probing\n"
        # Any moment will do: hits arrive without pause.
        with pytest.raises(subprocess.TimeoutExpired):
            tracer.wait(chance.random() * 0.05)
        os.kill(tracer.pid, signal.SIGKILL)
        tracer.wait()
        tracer.stdout.close()
        wait_until(lambda: tracer_pid(spin.pid) == 0, "nobody traces the target any more")
        assert executable_text(spin.pid) == before
    assert spin.finish()["work"] > 0
