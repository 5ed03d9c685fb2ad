"""Victims: small programs, compiled at test time, that a test attaches to and that report exact facts.

The protocol stands in tests/victims/victim.h. A victim dies with its pipe, so none outlives a test.
"""

import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

SOURCES = Path(__file__).parent / "victims"
CFLAGS = ["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"]
DEADLINE = 60.0  # seconds that a victim may take for one answer


class VictimError(Exception):
    """A victim did not compile, start or answer."""


class VictimBuilder:
    """Compiles victims once each, into a directory that every user can read."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="uprobes-victims-"))
        self.directory.chmod(0o755)
        self._built: dict[tuple[str, ...], Path] = {}

    def build(self, name: str, *options: str, sources: tuple[str, ...] = ()) -> Path:
        """The program made of tests/victims/NAME.c and `sources`, compiled with `options` after CFLAGS."""
        key = (name, *sources, *options)
        if key not in self._built:
            program = self.directory / f"{name}-{len(self._built)}" / name
            program.parent.mkdir(mode=0o755)
            files = [str(SOURCES / f"{source}.c") for source in (name, *sources)]
            command = ["gcc", *CFLAGS, *files, "-o", str(program), *options]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise VictimError(f"{' '.join(command)}:\n{done.stderr}")
            self._built[key] = program
        return self._built[key]

    def close(self) -> None:
        """Remove what was built."""
        shutil.rmtree(self.directory, ignore_errors=True)


class Victim:
    """A running victim; a context manager that leaves no process behind."""

    def __init__(self, program: Path | list[str], user: str | None = None) -> None:
        command = [str(program)] if isinstance(program, Path) else program
        self.lines: list[str] = []
        self._rest = b""
        # Without extra_groups the child would keep root's.
        identity = {} if user is None else {"user": user, "group": "nogroup", "extra_groups": []}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, cwd="/", **identity
        )
        try:
            self.wait_line("ready")
        except VictimError:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        """Of the victim."""
        return self.process.pid

    def read_line(self, timeout: float = DEADLINE) -> str | None:
        """The next line of output, None at its end."""
        deadline = time.monotonic() + timeout
        stream = self.process.stdout.fileno()
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stream], [], [], left)[0]:
                raise VictimError(f"pid {self.pid} said nothing for {timeout} s after {self.lines[-3:]}")
            piece = os.read(stream, 65536)
            if not piece:
                return None
            self._rest += piece
        line, self._rest = self._rest.split(b"\n", 1)
        self.lines.append(line.decode())
        return self.lines[-1]

    def wait_line(self, start: str, timeout: float = DEADLINE) -> str:
        """The next line that starts with `start`."""
        while (line := self.read_line(timeout)) is not None:
            if line.startswith(start):
                return line
        code = self.process.wait(timeout)
        raise VictimError(f"pid {self.pid} ended with {code} before it said {start!r}: {self.lines[-3:]}")

    def order(self, number: int) -> None:
        """Give the victim a number of rounds to work; returns at once."""
        self.process.stdin.write(b"%d\n" % number)

    def finish(self, timeout: float = DEADLINE) -> dict[str, int]:
        """No more orders: wait for the end, check that it was a good one, and return what was reported."""
        self.process.stdin.close()
        while self.read_line(timeout) is not None:
            pass
        code = self.process.wait(timeout)
        if code:
            raise VictimError(f"pid {self.pid} ended with {code} after {self.lines[-3:]}")
        reports = (line.rsplit(" ", 1) for line in self.lines if " " in line)
        return {name: int(value) for name, value in reports}

    def kill(self) -> None:
        """End the victim at once if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE)
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
