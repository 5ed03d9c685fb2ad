"""A sandbox on one processor."""

import os
from collections.abc import Iterator

import pytest

from uprobes.selftest.judge import Judge
from uprobes.selftest.sandbox import Sandbox
from uprobes.selftest.state import StateMaker


@pytest.fixture(autouse=True, scope="module")
def one_processor() -> Iterator[None]:
    """A stop costs a fifth when tracer and sandbox share a core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture(scope="module")
def sandbox(one_processor: None) -> Iterator[Sandbox]:
    with Sandbox() as made:
        yield made


@pytest.fixture
def judge(sandbox: Sandbox) -> Judge:
    return Judge(sandbox)


@pytest.fixture
def states(sandbox: Sandbox) -> StateMaker:
    return StateMaker(sandbox)
