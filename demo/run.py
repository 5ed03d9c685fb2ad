"""The demo: look into a program that is already running, then leave it as it was.

Starts demo/workload.py, runs the commands of this package on it as a user would, and checks afterwards that
the program goes on and that its text is byte for byte what it was. No root is needed: run as root, the demo
gives its rights up where the interpreter can be used without them.
"""

import hashlib
import os
import pwd
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 3
CALLS = 8
WORKLOAD = Path(__file__).with_name("workload.py")
# Module (the start of its file name; empty: whichever has it), function, and the formats of its arguments.
COUNTED = [
    ("libc.so", "malloc"),
    ("libcrypto", "EVP_Digest*"),
    ("libsqlite3", "sqlite3_step"),
    ("libsqlite3", "sqlite3_bind_*"),
    ("libz", "deflate"),
    ("", "PyUnicode_New"),
]
TRACED = [
    ("libsqlite3", "sqlite3_bind_text(%p, %d, %s, %d)"),
    ("libcrypto", "EVP_DigestUpdate(%p, %s, %zu)"),
    ("libz", "deflate(%p, %d)"),
]


def drop_root() -> str:
    """Become nobody if we are root and nobody can run us; returns what to tell."""
    if os.geteuid():
        return "as an ordinary user"
    user = pwd.getpwnam("nobody")
    probe = [sys.executable, "-c", "import uprobes.cli.main, uprobes"]
    identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    try:
        subprocess.run(probe, check=True, capture_output=True, **identity)
    except (subprocess.CalledProcessError, PermissionError):
        return "as root: user nobody cannot run this interpreter here (root is not needed)"
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    return "as user nobody, who has no rights of root"


class Workload:
    """The running program."""

    def __init__(self) -> None:
        """Start it and wait until it works."""
        self.process = subprocess.Popen(
            [sys.executable, str(WORKLOAD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._read()

    @property
    def pid(self) -> int:
        """Its number."""
        return self.process.pid

    def _read(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"demo: the workload ended with {self.process.wait()}")
        return line

    def rounds(self) -> int:
        """How many rounds it has done, by its own count."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self._read())

    def modules(self) -> dict[tuple[int, int], str]:
        """Its executable file mappings: addresses and path."""
        found = {}
        for line in Path(f"/proc/{self.pid}/maps").read_text().splitlines():
            span, rights, _, _, _, *path = line.split(None, 5)
            if "x" in rights and path and path[0].startswith("/"):
                start, end = (int(part, 16) for part in span.split("-"))
                found[start, end] = path[0]
        return found

    def text(self) -> dict[tuple[int, int], str]:
        """A digest of the bytes of each of them, as they are in its memory."""
        digests = {}
        with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
            for start, end in self.modules():
                memory.seek(start)
                digests[start, end] = hashlib.sha256(memory.read(end - start)).hexdigest()
        return digests

    def spec(self, module: str, function: str) -> str | None:
        """The place as the command takes it, None if no such module is loaded."""
        if not module:
            return function
        names = {Path(path).name for path in self.modules().values()}
        return next((f"{name.partition('.so')[0]}:{function}" for name in names if name.startswith(module)), None)


@contextmanager
def running_workload() -> Iterator[Workload]:
    """The workload, ended in any case."""
    workload = Workload()
    try:
        yield workload
    finally:
        workload.process.kill()
        workload.process.wait()


def show(*arguments: str) -> None:
    """Run the command as a user would, and show how it is typed."""
    print(f"\n$ uprobes {shlex.join(arguments)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "uprobes", *arguments], check=False).returncode
    if code:
        raise SystemExit(f"demo: uprobes ended with {code}")


def main() -> None:
    """Show counts and calls of a running program, and that it is as before."""
    print(f"Running {drop_root()}.")
    with running_workload() as workload:
        pid = str(workload.pid)
        print(f"Process {pid} hashes, compresses and queries SQLite in three threads, as it always does.")
        before = workload.text()
        counted = [spec for place in COUNTED if (spec := workload.spec(*place))]
        show("count", "-p", pid, "--for", str(SECONDS), *counted)
        traced = [spec for place in TRACED if (spec := workload.spec(*place))]
        show("trace", "-p", pid, "--for", str(SECONDS), "-n", str(CALLS), *traced)
        show("explain", "-p", pid, counted[0])

        after = workload.text()
        size = sum(end - start for start, end in before)
        changed = [span for span in before if after.get(span) != before[span]]
        if changed:
            raise SystemExit(f"demo: the text changed at {changed}")
        print(f"\nIts text, {size:,} bytes in {len(before)} mappings, is byte for byte as before.")
        first = workload.rounds()
        time.sleep(1)
        print(f"It runs on: {workload.rounds() - first:,} more rounds in the last second.")
        workload.process.stdin.close()
        code = workload.process.wait(timeout=30)
        if code:
            raise SystemExit(f"demo: the workload ended with {code}")
        print("It ended by itself, with every result right.")


if __name__ == "__main__":
    main()
