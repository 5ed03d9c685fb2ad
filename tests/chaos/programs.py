"""The real programs that chaos is let loose on. Each says whether its results were those of a run alone."""

import importlib.util
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

DEADLINE = 90.0  # seconds in which a program has to end when it is left alone
CIPHERS = ("aes-128-cbc", "chacha20")
PYTHON = str(Path(sys.executable).resolve())
LIBC = ("libc:malloc", "libc:free", "libc:read", "libc:write", "libc:mem*", "libc:str*", "libc:*lock*")


class Program:
    """A program that is started once, works for some seconds, and ends by itself."""

    specs: tuple[str, ...] = LIBC
    """What may be probed."""

    def __init__(self, name: str, argv: list[str], facts: Callable[[str], object], given: str = "") -> None:
        """`facts` picks from the output what every run has in common; `given` goes to its standard input."""
        self.name = name
        self._argv = argv
        self._facts = facts
        self._given = given
        self._process: subprocess.Popen[str] | None = None

    def start(self, folder: Path) -> None:
        """Run it in an empty folder. Its output goes to files, so that nobody has to read it meanwhile."""
        self._folder = folder
        self._process = self._run("probed")

    def _run(self, kind: str) -> subprocess.Popen[str]:
        given = self._folder / "given"
        given.write_text(self._given)
        with given.open() as stdin, (self._folder / kind).open("w") as output:
            return subprocess.Popen(self._argv, cwd=self._folder, stdin=stdin, stdout=output, stderr=output, text=True)

    @property
    def pid(self) -> int:
        """Of its first process."""
        assert self._process is not None
        return self._process.pid

    @property
    def over(self) -> bool:
        """Whether that has ended."""
        assert self._process is not None
        return self._process.poll() is not None

    def finish(self) -> None:
        """Wait for the end, and fail where it is not that of a run alone."""
        assert self._process is not None
        code = self._process.wait(DEADLINE)
        found = self._facts((self._folder / "probed").read_text())
        alone = self._run("alone")
        expected = alone.wait(DEADLINE), self._facts((self._folder / "alone").read_text())
        said = (self._folder / "probed").read_text()[-1000:]
        assert (code, found) == expected, f"{self.name} under probes: {(code, found)}; alone: {expected}: {said}"
        assert expected[0] == 0, f"{self.name} does not work here: {(self._folder / 'alone').read_text()[-1000:]}"

    def stop(self) -> None:
        """End it at once if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def cpython(modules: tuple[str, ...]) -> Program:
    """Modules of CPython's own tests."""
    argv = [PYTHON, "-m", "unittest", *(f"test.{module}" for module in modules)]
    program = Program("cpython", argv, lambda text: (re.findall(r"^Ran (\d+) tests", text, re.M), text.count("FAIL")))
    program.specs = (*LIBC, "libc:fork", "libc:waitpid", "libpython*:PyObject_*")
    return program


def sqlite() -> Program:
    """A database in memory: joins, text, sorting."""
    statements = """
        create table a(x integer primary key, y text);
        with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)
            insert into a select i, hex(i * 7919 % 10007) from n;
        create index b on a(y);
        select count(*), sum(length(y)), min(y), max(y) from a;
        select y, count(*) from a group by y order by count(*) desc, y limit 50;
        select count(*) from a join a as c on a.x = c.x + 17 where a.y < c.y;
        select group_concat(y, '') from (select y from a where x % 97 = 0 order by y desc);
    """
    program = Program("sqlite3", ["sqlite3", ":memory:"], str, statements * 3 + "drop table a;\n")
    program._given = "".join(f"{statements}\ndrop table a;\n" for _ in range(4))
    program.specs = (*LIBC, "libsqlite3:sqlite3_step", "libsqlite3:sqlite3_*")
    return program


def openssl() -> Program:
    """Checksums and ciphers over a stream, in processes of a shell."""
    line = "head -c 30000000 /dev/zero | openssl enc -{} -pass pass:x -nosalt -pbkdf2 -iter {} | openssl dgst -sha256"
    script = "\n".join(line.format(cipher, 40000 + 1000 * i) for i, cipher in enumerate(CIPHERS * 2))
    program = Program("openssl", ["bash", "-c", f"{script}\nopenssl speed -seconds 1 -bytes 64 sha256 >&2"], _digests)
    program.specs = (*LIBC, "libcrypto:EVP_*", "libcrypto:OPENSSL_*", "libcrypto:CRYPTO_*")
    return program


def _digests(text: str) -> list[str]:
    return re.findall(r"\b[0-9a-f]{64}\b", text)


def stress() -> Program:
    """Workers that check what they compute, fork, pipe and switch."""
    work = "--cpu 1 --cpu-ops 60 --cpu-method crc16 --pipe 1 --pipe-ops 4000 --fork 1 --fork-ops 300"
    work += " --vecmath 1 --vecmath-ops 30"
    words = f"stress-ng --verify --seed 1 --timeout 60 {work} --switch 1 --switch-ops 4000".split()
    return Program("stress-ng", words, lambda text: ("successful run completed" in text, "fail" in text))


class Redis(Program):
    """A server under load, whose data are compared with a dictionary; it forks to save them."""

    specs = (*LIBC, "libc:epoll_wait", "libc:fork", "redis-*:dict*", "libjemalloc:*")

    def __init__(self, seconds: float) -> None:
        """Under load for so long."""
        super().__init__("redis", [], str)
        self._seconds = seconds
        self._wrong: list[object] = []

    def start(self, folder: Path) -> None:
        """Start the server, and a client in a thread."""
        self._folder = folder
        self._argv = ["redis-server", "--port", "0", "--unixsocket", str(folder / "socket"), "--dir", str(folder)]
        self._process = self._run("probed")
        deadline = time.monotonic() + DEADLINE
        while not (folder / "socket").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self._client = threading.Thread(target=self._load)
        self._client.start()

    @property
    def over(self) -> bool:
        """Whether the load is over."""
        return super().over or not self._client.is_alive()

    def _load(self) -> None:
        try:
            self._talk()
        except BaseException as error:
            self._wrong.append(error)

    def _talk(self) -> None:
        kept: dict[str, str] = {}
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(DEADLINE)
            connection.connect(str(self._folder / "socket"))
            stream = connection.makefile("rb")
            end = time.monotonic() + self._seconds
            number = 0
            while time.monotonic() < end:
                key, value = f"key{number * 7919 % 1009}", str(number) * (number % 50 + 1)
                if (answer := _ask(connection, stream, "SET", key, value)) != "OK":
                    self._wrong.append(answer)
                kept[key] = value
                if number % 400 == 0:
                    _ask(connection, stream, "BGSAVE")
                number += 1
            for key, value in kept.items():
                if (answer := _ask(connection, stream, "GET", key)) != value:
                    self._wrong.append((key, answer, value))
            connection.sendall(b"SHUTDOWN NOSAVE\r\n")

    def finish(self) -> None:
        """Compare, and wait for the server's end."""
        assert self._process is not None
        self._client.join(DEADLINE)
        log = (self._folder / "probed").read_text()
        assert not self._wrong, f"redis: {self._wrong[:3]}: {log[:1500]} … {log[-500:]}"
        assert self._process.wait(DEADLINE) == 0
        assert "crashed" not in log, log[-2000:]
        assert "terminated by signal" not in log, log[-2000:]


def _ask(connection: socket.socket, stream: Any, *words: str) -> str | None:
    """One command and its answer (the Redis serialization protocol)."""
    connection.sendall(f"*{len(words)}\r\n".encode() + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words))
    line = stream.readline().decode().rstrip()
    if not line.startswith("$"):
        return str(line[1:])
    size = int(line[1:])
    return None if size < 0 else stream.read(size + 2)[:-2].decode()


class Postgres(Program):
    """A database server with a backend at work; its children are made by the first process."""

    specs = (*LIBC, "postgres:Exec*", "postgres:heap_*", "postgres:palloc")

    def __init__(self) -> None:
        """As the user postgres, where we are root: the server refuses to run as root."""
        super().__init__("postgres", [], str)
        self._user: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}

    def start(self, folder: Path) -> None:
        """Make a cluster, start the server, and a client that asks it things."""
        self._folder = folder
        folder.chmod(0o777)
        for parent in folder.parents[:2]:
            parent.chmod(parent.stat().st_mode | 0o055)
        programs = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)))
        data = str(folder / "data")
        make = [programs / "initdb", "-D", data, "-N", "-A", "trust"]
        subprocess.run(make, check=True, capture_output=True, cwd="/", **self._user)
        options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
        with (folder / "probed").open("w") as log:
            serve = [str(programs / "postgres"), "-D", data, *options]
            self._process = subprocess.Popen(serve, cwd="/", stdout=log, stderr=log, text=True, **self._user)
        deadline = time.monotonic() + DEADLINE
        while subprocess.run([programs / "pg_isready", "-q", "-h", str(folder)], check=False).returncode:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        script = (
            "create table a as select i, md5(i::text) m from generate_series(1, 20000) i; create index on a(m);"
            "select count(*), min(m), max(m) from a;"
            "select sum(x.i) from a x join a y on x.i = y.i + 1 where x.m < y.m;"
            "select md5(string_agg(m, ',' order by m)) from a; drop table a;"
        )
        words = [str(programs / "psql"), "-h", str(folder), "-d", "postgres", "-Atq", "-v", "ON_ERROR_STOP=1"]
        with (folder / "answers").open("w") as answers:
            # Each in a session of its own: the server makes a process for it.
            self._sessions = subprocess.Popen(
                ["bash", "-c", 'for i in {1..8}; do "$@" || exit; done', "psql", *words, "-c", script],
                stdout=answers, stderr=answers, cwd="/", **self._user,
            )  # fmt: skip

    @property
    def over(self) -> bool:
        """Whether the sessions are over."""
        return super().over or self._sessions.poll() is not None

    def finish(self) -> None:
        """Every session got the same answers; the server ends as it should."""
        assert self._process is not None
        assert self._sessions.wait(DEADLINE) == 0, (self._folder / "answers").read_text()
        answers = (self._folder / "answers").read_text().splitlines()
        assert len(answers) == 8 * 3, answers
        assert answers == answers[:3] * 8
        self._process.terminate()
        assert self._process.wait(DEADLINE) == 0
        assert "terminated by signal" not in (self._folder / "probed").read_text()

    def stop(self) -> None:
        """The sessions, too."""
        super().stop()
        with suppress(AttributeError, ProcessLookupError):
            self._sessions.kill()
            self._sessions.wait()


def programs(seconds: float) -> Iterator[Program]:
    """Those that are installed here; Redis is kept under load for `seconds`."""
    if importlib.util.find_spec("test.test_json") is not None:
        yield cpython(("test_bisect", "test_struct", "test_textwrap", "test_heapq", "test_popen"))
    for name, make in {"sqlite3": sqlite, "openssl": openssl, "stress-ng": stress}.items():
        if shutil.which(name):
            yield make()
    if shutil.which("redis-server"):
        yield Redis(seconds)
    with suppress(KeyError):
        if any(Path("/usr/lib/postgresql").glob("*/bin/initdb")) and (os.geteuid() or pwd.getpwnam("postgres")):
            yield Postgres()
