"""Fixtures that every test may use: victims, and an ordinary user's rights."""

from collections.abc import Callable, Iterator

import pytest

from tests.victim import Victim, VictimBuilder


@pytest.fixture(scope="session")
def builder() -> Iterator[VictimBuilder]:
    """Compiles victims, once each in a session."""
    made = VictimBuilder()
    yield made
    made.close()


@pytest.fixture
def victim(builder: VictimBuilder) -> Iterator[Callable[..., Victim]]:
    """Starts a victim by name: victim("hot"); every one is ended with the test."""
    started: list[Victim] = []

    def start(name: str, *options: str, sources: tuple[str, ...] = (), user: str | None = None) -> Victim:
        started.append(Victim(builder.build(name, *options, sources=sources), user=user))
        return started[-1]

    yield start
    for one in started:
        one.kill()
