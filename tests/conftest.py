"""Fixtures that every test may use: victims, and an ordinary user's rights."""

import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.process import COMMAND, ENVIRONMENT, call_as_user
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


@pytest.fixture
def uprobes_cli() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command with the arguments and returns what it did; never more than a minute."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        usual = {"capture_output": True, "text": True, "timeout": 60, "env": ENVIRONMENT}
        return subprocess.run([*COMMAND, *map(str, arguments)], **usual | options, check=False)

    return run


@pytest.fixture
def as_user() -> Callable[[Callable[[], object]], object]:
    """Calls a function in a child process that has an ordinary user's rights, and returns its result."""
    return call_as_user
