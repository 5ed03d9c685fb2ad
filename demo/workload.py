"""An ordinary program to look into: three threads that hash, compress, and keep a table in SQLite.

Prints `ready`, then for each line that it reads how many rounds it has done, until its standard input ends. It
knows nothing of uprobes and checks its own results as it goes.
"""

import hashlib
import json
import sqlite3
import sys
import threading
import zlib

PAUSE = 0.002  # seconds between rounds: busy, and still leaves the machine to others


def hash_text(round_number: int) -> None:
    """SHA-256 by the system's libcrypto, of a block large enough for it to matter."""
    block = (b"%08d" % round_number) * 512
    digest = hashlib.new("sha256", block)
    assert digest.digest_size == 32
    assert len(digest.hexdigest()) == 64


def compress_text(round_number: int) -> None:
    """Compress a document and read it back."""
    document = json.dumps({"round": round_number, "values": list(range(200))}).encode()
    assert zlib.decompress(zlib.compress(document, 6)) == document


def query_table(round_number: int, connections: threading.local) -> None:
    """Insert a row, and ask for the newest ones."""
    if not hasattr(connections, "table"):
        connections.table = sqlite3.connect(":memory:")
        connections.table.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, note TEXT)")
    table = connections.table
    table.execute("INSERT INTO events (note) VALUES (?)", (f"round {round_number}",))
    rows = table.execute("SELECT id, note FROM events ORDER BY id DESC LIMIT 5").fetchall()
    assert rows[0][1] == f"round {round_number}"
    if round_number % 1000 == 999:
        table.execute("DELETE FROM events")


class Counter:
    """Rounds done so far, of all threads."""

    def __init__(self) -> None:
        """None yet."""
        self.rounds = 0
        self.failure: BaseException | None = None
        self._lock = threading.Lock()

    def add(self) -> None:
        """One more."""
        with self._lock:
            self.rounds += 1


def work(stop: threading.Event, counter: Counter, connections: threading.local) -> None:
    """What each thread does until it is told to stop."""
    round_number = 0
    try:
        while not stop.wait(PAUSE):
            hash_text(round_number)
            compress_text(round_number)
            query_table(round_number, connections)
            counter.add()
            round_number += 1
    except BaseException as error:
        counter.failure = error
        raise


def main() -> None:
    """Run until standard input ends; leave with 0 when every result was right."""
    stop = threading.Event()
    counter = Counter()
    connections = threading.local()
    threads = [threading.Thread(target=work, args=(stop, counter, connections)) for _ in range(3)]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(counter.rounds, flush=True)
    stop.set()
    for thread in threads:
        thread.join()
    sys.exit(counter.failure is not None)


if __name__ == "__main__":
    main()
