"""What the cases share: victims on one processor with their tracer, and a place for the figures."""

import os
from collections.abc import Callable, Iterator

import pytest

from tests.victim import Victim, VictimBuilder

ROUNDS = 15


@pytest.fixture(scope="session")
def builder() -> Iterator[VictimBuilder]:
    """Compiles victims, once each in a session."""
    made = VictimBuilder()
    yield made
    made.close()


@pytest.fixture
def cpu() -> Iterator[int]:
    """One processor, to which this thread and all that it starts are bound."""
    allowed = os.sched_getaffinity(0)
    chosen = max(allowed)
    os.sched_setaffinity(0, {chosen})
    yield chosen
    os.sched_setaffinity(0, allowed)


@pytest.fixture
def victim(builder: VictimBuilder) -> Iterator[Callable[[str], Victim]]:
    """Starts a victim by name; every one is ended with the case."""
    started: list[Victim] = []

    def start(name: str) -> Victim:
        started.append(Victim(builder.build(name)))
        return started[-1]

    yield start
    for one in started:
        one.kill()
