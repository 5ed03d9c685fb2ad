"""What tests ask of processes: the command, another user's rights, a target's text, and its state."""

import hashlib
import os
import pickle
import pwd
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "uprobes"]
# The tree's own code, whatever is installed.
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / 'python'}:{ROOT}", "COLUMNS": "120"}
ORDINARY = "nobody"


def executable_text(pid: int) -> dict[tuple[int, int, str], str]:
    """A digest of every executable file mapping of a process, as it is in memory."""
    text = {}
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, _, _, _, *path = line.split(None, 5)
            if "x" not in rights or not path or not path[0].startswith("/"):
                continue
            start, end = (int(each, 16) for each in span.split("-"))
            memory.seek(start)
            text[start, end, path[0]] = hashlib.sha256(memory.read(end - start)).hexdigest()
    return text


def tracer_pid(pid: int) -> int:
    """The process that traces `pid`, 0 for none."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("TracerPid:"):
            return int(line.split()[1])
    raise AssertionError(f"no TracerPid of {pid}")


def wait_until(fact: Callable[[], bool], what: str, timeout: float = 20.0) -> None:
    """Return as soon as `fact()` holds; fail with `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not fact():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.002)


def call_as_user(function: Callable[[], object]) -> object:
    """Call `function` in a forked child, as nobody when we are root, and return its result.

    Forked and not started anew: nobody may be unable to read the interpreter and the tree.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code = 1
        try:
            if os.geteuid() == 0:
                user = pwd.getpwnam(ORDINARY)
                os.setgroups([])
                os.setgid(user.pw_gid)
                os.setuid(user.pw_uid)
            answer: tuple[bool, object] = (True, function())
        except BaseException:
            answer = (False, traceback.format_exc())
        try:
            with os.fdopen(writer, "wb") as pipe:
                pickle.dump(answer, pipe)
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        sent = pipe.read()
    os.waitpid(child, 0)
    assert sent, "the child ended without an answer"
    good, value = pickle.loads(sent)  # noqa: S301 (our own child)
    assert good, value
    return value
