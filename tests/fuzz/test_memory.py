"""The decoder under AddressSanitizer and UndefinedBehaviorSanitizer."""

import subprocess
import sys

import pytest

from tests.fuzz import memory
from tests.oracle.build import compiler

SEQUENCES = 300_000


@pytest.fixture(scope="module")
def sanitized():
    if compiler() is None:
        pytest.skip("no C compiler")
    return memory.build_sanitized()


@pytest.mark.timeout(300)
def test_decoder_never_reads_past_the_given_bytes(sanitized):
    run = subprocess.run(
        memory.command(seed=1, sequences=SEQUENCES),
        env=memory.environment(sanitized),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    assert "runtime error" not in run.stderr
    assert int(run.stdout.split()[0]) >= SEQUENCES


def test_the_checker_finds_a_read_past_the_end(sanitized):
    """The build really is checked: a block given as one byte longer than it is ends the run."""
    code = "from tests.differential import ours; ours.extension().read_past_the_end()"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=memory.environment(sanitized),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert "heap-buffer-overflow" in run.stderr
