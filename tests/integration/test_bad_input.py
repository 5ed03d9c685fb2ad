"""Bad input: a clear error with a way out, the right exit code, and a target that never noticed."""

import os
import subprocess

import pytest

import uprobes
from tests.process import executable_text, tracer_pid
from uprobes import errors

GARBAGE = [
    "", ":", "libc:", ":malloc", "libc:malloc+", "libc:malloc+zz", "libc:malloc+-4", "0x", "0xzz", "libc:0x",
    "nosuch:libc:malloc", "uprobe:", "usdt:libc", "a:b:c:d:e", "libc:malloc malloc", "libc:mal\nloc", "\0",
    "libc:[", "+4", "libc:malloc+99999999999999999999999", "ü:ü", "main.c:", "main.c:x",
]


@pytest.fixture
def quiet(victim):
    """A victim that must not notice anything; that is checked at the end."""
    one = victim("hot")
    before = executable_text(one.pid)
    yield one
    assert tracer_pid(one.pid) == 0
    assert executable_text(one.pid) == before
    one.order(1000)
    assert one.finish()["hot"] == 1000


def free_pid():
    """A number that no process has: its last owner has just been waited for."""
    done = subprocess.Popen(["true"])
    done.wait()
    return done.pid


def test_unknown_pid(uprobes_cli):
    pid = free_pid()
    with pytest.raises(errors.TargetGone, match=str(pid)) as caught:
        uprobes.attach(pid)
    assert isinstance(caught.value, ProcessLookupError)
    done = uprobes_cli("count", "-p", pid, "libc:malloc")
    assert (done.returncode, done.stdout) == (1, "")
    assert str(pid) in done.stderr
    assert "no such process" in done.stderr


@pytest.mark.parametrize("pid", ["0", "-1", "abc", "99999999999", "1.5"])
def test_impossible_pid(uprobes_cli, pid):
    done = uprobes_cli("count", "-p", pid, "libc:malloc")
    assert done.returncode in (1, 2)
    assert pid in done.stderr
    assert "Traceback" not in done.stderr


def test_process_of_another_user(quiet, as_user):
    foreign = quiet.pid if os.geteuid() == 0 else 1
    if os.geteuid() and os.stat("/proc/1").st_uid == os.geteuid():
        pytest.skip("no process of another user: process 1 is our own")

    def attach():
        try:
            uprobes.attach(foreign)
        except PermissionError as error:
            return isinstance(error, errors.NotPermitted), str(error)
        return None

    known, text = as_user(attach)
    assert known
    assert str(foreign) in text
    assert "hint: " in text

    def command():
        from uprobes.cli.main import main

        try:
            main(["count", "-p", str(foreign), "libc:malloc"])
        except SystemExit as end:
            return end.code
        return None

    assert as_user(command) == 77


def test_process_that_is_traced_already(quiet, victim, uprobes_cli):
    other = victim("tracer")
    other.order(quiet.pid)
    other.wait_line("seized 1")
    with pytest.raises(errors.AlreadyTraced, match=str(other.pid)):
        uprobes.attach(quiet.pid)
    done = uprobes_cli("count", "-p", quiet.pid, "libc:malloc")
    assert done.returncode == 77
    assert str(other.pid) in done.stderr
    other.kill()


def test_symbol_that_does_not_exist(quiet, uprobes_cli):
    with uprobes.attach(quiet.pid) as target, pytest.raises(errors.SymbolNotFound) as caught:
        target.probe("libc:mallok")
    assert "malloc" in caught.value.near
    done = uprobes_cli("count", "-p", quiet.pid, "libc:mallok")
    assert done.returncode == 1
    assert "did you mean malloc" in done.stderr


def test_module_that_is_not_loaded(quiet, uprobes_cli):
    with uprobes.attach(quiet.pid) as target, pytest.raises(errors.ModuleNotFound):
        target.probe("libcc:malloc")
    assert uprobes_cli("count", "-p", quiet.pid, "libcc:malloc").returncode == 1


def test_ambiguous_symbol(victim, uprobes_cli):
    ambiguous = victim("ambiguous", sources=("twin",))
    with uprobes.attach(ambiguous.pid) as target, pytest.raises(errors.AmbiguousSymbol) as caught:
        target.probe("ambiguous:twin")
    assert len(caught.value.candidates) == 2
    done = uprobes_cli("count", "-p", ambiguous.pid, "ambiguous:twin")
    assert done.returncode == 1
    for candidate in caught.value.candidates:
        assert candidate in done.stderr
    # What the error offers is exact, and works.
    with uprobes.attach(ambiguous.pid) as target:
        probes = [target.probe(candidate) for candidate in caught.value.candidates]
        ambiguous.order(5)
        assert ambiguous.finish()["value"] == 5 * 3 + 5 * 5 + 1
        assert [probe.hits for probe in probes] == [1, 1]


def test_address_inside_an_instruction(quiet, uprobes_cli):
    with uprobes.attach(quiet.pid) as target, pytest.raises(errors.ProbeRefused) as caught:
        target.probe("hot:hot+1")
    assert caught.value.refusal.name == "INSIDE"
    assert "hot+0x0" in str(caught.value)
    done = uprobes_cli("count", "-p", quiet.pid, "hot:hot+1")
    assert done.returncode == 1
    assert "inside the instruction" in done.stderr


def mapping(pid, rights):
    """The start of a mapping with these rights."""
    with open(f"/proc/{pid}/maps") as maps:
        return next(int(line.split("-")[0], 16) for line in maps if line.split()[1] == rights)


@pytest.mark.parametrize("place", ["data", "null", "kernel", "unmapped"])
def test_address_outside_any_executable_mapping(quiet, uprobes_cli, place):
    address = {
        "data": mapping(quiet.pid, "rw-p"),
        "null": 0,
        "kernel": 0xFFFFFFFF80000000,
        "unmapped": 0x10000,
    }[place]
    with uprobes.attach(quiet.pid) as target, pytest.raises(errors.ProbeRefused) as caught:
        target.probe(hex(address))
    assert caught.value.refusal.name == "NOT_EXECUTABLE"
    done = uprobes_cli("count", "-p", quiet.pid, hex(address))
    assert done.returncode == 1
    assert hex(address) in done.stderr


def test_32_bit_target(victim, uprobes_cli):
    small = victim("bits32", "-m32", "-nostdlib", "-static")
    with pytest.raises(errors.UnsupportedTarget, match="32-bit"):
        uprobes.attach(small.pid)
    done = uprobes_cli("count", "-p", small.pid, "bits32:work")
    assert done.returncode == 1
    assert "32-bit" in done.stderr
    assert tracer_pid(small.pid) == 0
    small.finish()


@pytest.mark.parametrize("spec", GARBAGE)
def test_garbage_spec(quiet, spec):
    answers = (errors.SpecError, errors.SymbolNotFound, errors.ModuleNotFound)
    with uprobes.attach(quiet.pid) as target, pytest.raises(answers):
        target.probe(spec)


@pytest.mark.parametrize("spec", ["libc:malloc+zz", "libc:", "usdt:libc"])
def test_garbage_spec_is_a_usage_error(quiet, uprobes_cli, spec):
    done = uprobes_cli("count", "-p", quiet.pid, spec)
    assert done.returncode == 2
    assert spec in done.stderr


def test_ourselves():
    with pytest.raises(errors.UprobeError, match=str(os.getpid())):
        uprobes.attach(os.getpid())


def test_zombie(builder):
    dead = subprocess.Popen([str(builder.build("hot"))], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(errors.UprobeError, match=str(dead.pid)):
        uprobes.attach(dead.pid)
    dead.wait()


def test_neither_pid_nor_command(uprobes_cli):
    done = uprobes_cli("count", "libc:malloc")
    assert done.returncode == 2
    assert "-p PID" in done.stderr


def test_command_that_cannot_start(uprobes_cli):
    done = uprobes_cli("count", "libc:malloc", "--", "/nonexistent/program")
    assert done.returncode == 1
    assert "/nonexistent/program" in done.stderr
