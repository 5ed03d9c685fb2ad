"""Journals: what is written is read again, space is reserved first, and the living are told from the dead."""

import errno
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys

import pytest

from tests.process import ENVIRONMENT
from uprobe_core.linux.journal import Journal as Records
from uprobe_core.linux.journal import area_kind, record_flag
from uprobes import journal
from uprobes.errors import AlreadyTraced, JournalError
from uprobes.process import start_time


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """Journals of this test lie below a runtime directory of its own."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "uprobes"


@pytest.fixture
def target():
    """The pid of some process that lives."""
    child = subprocess.Popen(["sleep", "60"])
    yield child.pid
    child.kill()
    child.wait()


def file_records(path):
    """An empty journal in a file of that path."""
    return Records(os.open(path, os.O_RDWR | os.O_CREAT), 12, 34)


def test_what_is_written_is_read_again(tmp_path):
    records = file_records(tmp_path / "j")
    long = bytes(range(16))
    records.append_patch(0x401000, b"\x55", b"\xcc")
    records.append_patch(0x7FFFFFFFF000, long, long[::-1], 0x1234, record_flag.RECORD_JUMP)
    records.append_patch(0x402000, b"\x0f\x1f\x44\x00\x00\x90", b"\xe9\x01\x02\x03\x04")
    records.append_area(0x500000, 65536, area_kind.AREA_TRAPS, sealed=True)
    records.append_signal(long + long)
    records.stack_vaddr = 0x7FF0
    records.close()
    again = Records(os.open(tmp_path / "j", os.O_RDWR))
    assert (again.pid, again.start_time, again.stack_vaddr, again.kept) == (12, 34, 0x7FF0, False)
    assert again.patches() == [
        (0x401000, b"\x55", b"\xcc", 0, 0, 0, 0),
        (0x7FFFFFFFF000, long, long[::-1], 0x1234, record_flag.RECORD_JUMP, 0, 0),
        (0x402000, b"\x0f\x1f\x44\x00\x00\x90", b"\xe9\x01\x02\x03\x04", 0, 0, 0, 0),
    ]
    assert again.areas() == [(0x500000, 65536, area_kind.AREA_TRAPS, True)]
    assert again.signals() == long + long
    again.close()


def test_dropped_records_are_void_and_their_space_is_used_again(tmp_path):
    records = file_records(tmp_path / "j")
    numbers = [records.append_patch(0x1000 + i, b"\x90", b"\xcc") for i in range(5000)]
    size = (tmp_path / "j").stat().st_size
    for number in numbers[1:]:
        records.drop(number)
    assert [patch[0] for patch in records.patches()] == [0x1000]
    for i in range(4999):
        records.append_patch(0x9000 + i, b"\x90", b"\xcc")
    assert (tmp_path / "j").stat().st_size == size
    assert len(records.patches()) == 5000
    records.close()


def test_an_exec_makes_all_records_void(tmp_path):
    records = file_records(tmp_path / "j")
    records.append_patch(0x1000, b"\x90", b"\xcc")
    records.append_area(0x2000, 4096, area_kind.AREA_SLOTS, sealed=False)
    records.next_generation(0x7000)
    assert (records.patches(), records.areas(), records.signals()) == ([], [], None)
    records.append_patch(0x3000, b"\x91", b"\xcc")
    assert [patch[0] for patch in records.patches()] == [0x3000]
    records.close()


@pytest.mark.parametrize("sizes", [(0, 0), (17, 17), (5, 4)])
def test_impossible_patches_are_refused(tmp_path, sizes):
    records = file_records(tmp_path / "j")
    with pytest.raises(ValueError, match="patch of"):
        records.append_patch(0x1000, bytes(sizes[1]), bytes(sizes[0]))
    with pytest.raises(ValueError, match="disposition of 8 bytes"):
        records.append_signal(bytes(8))
    records.close()
    with pytest.raises(ValueError, match="closed"):
        records.patches()


@pytest.mark.parametrize("content", [b"", b"x", bytes(4096), b"A" * 9000])
def test_a_file_that_is_no_journal(tmp_path, content):
    (tmp_path / "j").write_bytes(content)
    descriptor = os.open(tmp_path / "j", os.O_RDWR)
    with pytest.raises(OSError, match="journal") as failure:
        Records(descriptor)
    os.close(descriptor)
    assert failure.value.errno == errno.EBADMSG


def test_no_space_is_told_before_anything_is_written(tmp_path):
    records = file_records(tmp_path / "j")
    records.append_patch(0x1000, b"\x90", b"\xcc")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (tmp_path / "j").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as failure:
            records.reserve(5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert failure.value.errno == errno.EFBIG
    assert (tmp_path / "j").stat().st_size == size
    assert len(records.patches()) == 1
    records.reserve(5000)
    records.close()


def test_one_writer(directory, target):
    first = journal.create(target)
    assert first.path.parent == directory
    assert directory.stat().st_mode & 0o777 == 0o700
    assert first.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(AlreadyTraced) as failure:
        journal.create(target)
    assert failure.value.tracer == os.getpid()
    # Looking for journals must not lose the lock, as closing a descriptor of the file would.
    assert [found.owner for found in journal.find(target)] == [os.getpid()]
    other = subprocess.run(
        [sys.executable, "-c", f"from uprobes import journal; journal.create({target})"],
        capture_output=True, text=True, env={**ENVIRONMENT, "XDG_RUNTIME_DIR": str(directory.parent)}, check=False,
    )  # fmt: skip
    assert f"AlreadyTraced: cannot trace process {target}: it is traced by process {os.getpid()}" in other.stderr
    first.remove()
    assert list(directory.iterdir()) == []
    journal.create(target).remove()


def _write_and_wait(target, pipe):
    made = journal.create(target)
    made.records.append_patch(0x1000, b"\x90", b"\xcc")
    made.describe({"probes": ["libc:malloc"]})
    child = os.fork()  # a child that has the descriptor, but no part in the lock
    if child == 0:
        signal.pause()
    pipe.send(child)
    signal.pause()


def test_the_dead_are_told_from_the_living(directory, target):
    ours, theirs = multiprocessing.Pipe()
    writer = multiprocessing.get_context("fork").Process(target=_write_and_wait, args=(target, theirs))
    writer.start()
    orphan = ours.recv()
    try:
        assert [found.owner for found in journal.find(target)] == [writer.pid]
        assert journal.find_dead(target) is None
        with pytest.raises(AlreadyTraced):
            journal.take(journal.find(target)[0])
        writer.kill()
        writer.join()
        found = journal.find_dead(target)
        assert found is not None
        with pytest.raises(JournalError, match=f"uprobes recover -p {target}"):
            journal.create(target)
        taken = journal.take(found)
        assert [patch[0] for patch in taken.records.patches()] == [0x1000]
        assert taken.description == {"probes": ["libc:malloc"]}
        assert taken.records.tracer_pid == os.getpid()
        taken.remove()
        assert list(directory.iterdir()) == []
    finally:
        os.kill(orphan, signal.SIGKILL)


def test_a_description_is_whole_or_not_there(directory, target):
    made = journal.create(target)
    assert made.description is None
    made.describe([1, 2])
    made.path.with_suffix(".json").write_text('{"cut')
    assert made.description is None
    made.describe({"a": 1})
    assert json.loads(made.path.with_suffix(".json").read_text()) == {"a": 1}
    made.remove()


def test_a_directory_that_others_may_use_is_refused(directory, target):
    directory.mkdir(mode=0o755)
    with pytest.raises(JournalError, match=r"mode 755.*chmod 700"):
        journal.create(target)
    directory.rmdir()
    directory.symlink_to("/")
    with pytest.raises(JournalError, match="no directory"):
        journal.create(target)
    assert journal.find(target) == []


def test_links_in_place_of_the_file_are_not_followed(directory, target, tmp_path):
    directory.mkdir(mode=0o700)
    path = directory / f"{target}-{start_time(target)}.journal"
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path.symlink_to(victim)
    with pytest.raises(JournalError):
        journal.create(target)
    path.unlink()
    path.hardlink_to(victim)
    with pytest.raises(JournalError, match="no file of our own"):
        journal.create(target)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(JournalError):
        journal.create(target)
    assert journal.find(target) == []
    assert victim.read_text() == "precious"


def test_no_directory_at_all(monkeypatch, target):
    monkeypatch.setattr(journal, "_own_path", lambda: journal.Path("/proc/uprobes"))
    with pytest.raises(JournalError, match=r"cannot write the journal /proc/uprobes.*XDG_RUNTIME_DIR"):
        journal.create(target)


def test_names_that_are_no_journals_are_passed_over(directory, target):
    directory.mkdir(mode=0o700)
    for name in ("x-1.journal", "1.journal", f"{target}-x.journal", f"{target}-1.txt", f"-{target}-1.journal"):
        (directory / name).write_text("")
    assert journal.find(target) == []
    assert journal.find() == []


def test_a_journal_of_a_reused_pid_is_not_the_process_own(directory, target):
    made = journal.create(target)
    stale = made.path.with_name(f"{target}-1.journal")
    made.path.rename(stale)
    made.close()
    assert [found.start_time for found in journal.find(target)] == [1]
    assert journal.find_dead(target) is None
    with pytest.raises(JournalError, match="it speaks of process"):
        journal.take(journal.find(target)[0])
    journal.create(target).remove()
