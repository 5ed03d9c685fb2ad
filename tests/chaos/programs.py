"""The programs: each has a result that is known from a run that nobody probes."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SQL = """
WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {size})
SELECT count(*), sum(x * x % 977), max(printf('%d-%s', x % 101, hex(x))), group_concat(DISTINCT x % 13) FROM n;
"""
PYTHON_TESTS = ("test_json", "test_heapq", "test_struct", "test_bisect", "test_threading_local")
REDIS_COMMANDS = 20_000


@dataclass(frozen=True)
class Program:
    """A command whose output and exit code are always the same, and places in it worth probing."""

    name: str
    argv: tuple[str, ...]
    globs: tuple[str, ...]

    @property
    def available(self) -> bool:
        """Whether it is installed."""
        return shutil.which(self.argv[0]) is not None

    def start(self, output: Path) -> subprocess.Popen[bytes]:
        """Run it, with both outputs to a file."""
        with output.open("wb") as file:
            environment = {**os.environ, "PYTHONHASHSEED": "0", "LC_ALL": "C"}
            return subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd="/"
            )  # fmt: skip

    def judge(self, code: int, output: bytes) -> object:
        """What must not differ between two runs."""
        if self.name == "python":  # the times that it took differ
            return code, b"OK" in output, output.count(b"FAIL") + output.count(b"ERROR")
        return (code, b"") if self.name == "stress-ng" else (code, output)


LIBC = ("libc:mem*", "libc:str*", "libc:*alloc*", "libc:pthread_*", "libc:read*", "libc:clock_gettime*", "libc:w*")


def programs(scale: float = 1.0) -> list[Program]:
    """Those that are installed; `scale` 1 is some seconds of work each."""
    kdf = ["openssl", "kdf", "-keylen", "32"]
    for option in ("digest:SHA256", "pass:chaos", "salt:salt"):
        kdf += ["-kdfopt", option]
    stress = ["stress-ng", "--verify", "--metrics-brief"]
    for worker in ("--fork", "--vfork", "--pthread", "--clone", "--sigsegv", "--timer", "--futex", "--switch"):
        stress += [worker, "1", f"{worker}-ops", str(int(300 * scale))]
    found = [
        Program("sqlite3", ("sqlite3", ":memory:", SQL.format(size=int(1_500_000 * scale))),
                (*LIBC, "libsqlite3:sqlite3V*", "libsqlite3:sqlite3_*", "sqlite3:*")),
        Program("openssl", (*kdf, "-kdfopt", f"iter:{int(4_000_000 * scale)}", "PBKDF2"),
                (*LIBC, "libcrypto:EVP_*", "libcrypto:HMAC*", "libcrypto:SHA256*", "libcrypto:OPENSSL_*")),
        Program("stress-ng", tuple(stress), (*LIBC, "stress-ng:stress_*")),
    ]  # fmt: skip
    if importlib.util.find_spec("test.test_json"):
        tests = [f"test.{name}" for name in PYTHON_TESTS] * max(1, int(2 * scale))
        names = ("PyDict_*", "PyObject_*", "PyList_*", "_PyEval_*", "PyLong_*", "PyMem_*", "_Py*")
        found.append(Program("python", (sys.executable, "-m", "unittest", *tests), (*LIBC, *names)))
    return [program for program in found if program.available]


@contextmanager
def redis() -> Iterator[tuple[int, Path]]:
    """A Redis server: its pid and the path of its socket."""
    with tempfile.TemporaryDirectory(prefix="uprobes-redis-") as directory:
        path = Path(directory) / "socket"
        command = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", directory]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 20
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            yield server.pid, path
        finally:
            server.terminate()
            server.wait(30)


def work_redis(path: Path, commands: int = REDIS_COMMANDS) -> str:
    """Increments, lists and hashes; what is wrong in the answers, or nothing."""
    with socket.socket(socket.AF_UNIX) as connection, suppress(TimeoutError):
        connection.settimeout(60)
        connection.connect(str(path))
        stream = connection.makefile("rb")
        for number in range(1, commands + 1):
            connection.sendall(b"INCR counter\r\nRPUSH list %d\r\nHSET hash f%d %d\r\n" % (number, number % 50, number))
            answers = [stream.readline() for _ in range(3)]
            if answers[:2] != [b":%d\r\n" % number] * 2 or answers[2] != b":%d\r\n" % (number <= 50):
                return f"after {number} commands: {answers}"
        return ""
    return "no answer"
