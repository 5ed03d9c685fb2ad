"""Writing ten thousand patches down, in a file of the runtime directory."""

import os

import pytest

from uprobe_core.linux.journal import Journal, fill
from uprobes.journal import own_directory

RECORDS = 10_000


@pytest.fixture
def path():
    """A file beside the journals, so that it is of the same file system."""
    made = own_directory() / f"bench-{os.getpid()}"
    yield made
    made.unlink()


def bench_journal(benchmark, path):
    """Reserving the space, mapping it and storing the records."""
    journals = []

    def fresh():
        for journal in journals:
            journal.close()
        journals[:] = [Journal(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), 1, 1)]

    benchmark.pedantic(lambda: fill(journals[0], RECORDS), setup=fresh, rounds=20)
    journals[0].close()
    benchmark.extra_info.update(unit=f"{RECORDS:,} records")
