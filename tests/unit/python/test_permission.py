"""What keeps a process from being traced: by made-up situations, and by real processes."""

import ctypes
import dataclasses
import errno
import os
import re
import signal
import subprocess

import pytest

from tests.process import wait_until
from tests.victim import Victim
from uprobes import cgroups
from uprobes.cgroups import Groups, read_groups
from uprobes.errors import AlreadyTraced, NotPermitted, TargetGone, UnsupportedTarget
from uprobes.permission import Check, Verdict, examine, explain_refusal, judge, require_traceable
from uprobes.situation import CAP_SYS_PTRACE, Credentials, Situation, read_situation

USER = Credentials(pid=100, uids=(1000,) * 4, gids=(1000,) * 4, permitted=0, effective=0)
ROOT = Credentials(pid=100, uids=(0,) * 4, gids=(0,) * 4, permitted=(1 << 41) - 1, effective=(1 << 41) - 1)
GOOD = Situation(
    subject=dataclasses.replace(USER, pid=200),
    ours=USER,
    name="service",
    leader=200,
    parent=1,
    state="S",
    threads=3,
    kernel_thread=False,
    bits=64,
    tracer=0,
    tracer_name="",
    dumpable=True,
    yama=None,
)


def with_subject(**changes):
    return dataclasses.replace(GOOD, subject=dataclasses.replace(GOOD.subject, **changes))


def test_nothing_is_wrong_with_a_good_one():
    assert {finding.verdict for finding in judge(GOOD)} == {Verdict.FINE}


BLOCKED, LIMITED, NOTE = Verdict.BLOCKED, Verdict.LIMITED, Verdict.NOTE


@pytest.mark.parametrize(
    ("change", "check", "verdict", "fact"),
    [
        ({"state": "Z", "threads": 1}, Check.LIFE, BLOCKED, "waits for its parent, process 1"),
        ({"state": "Z"}, Check.LIFE, NOTE, "2 are left"),
        ({"state": "T"}, Check.LIFE, NOTE, "it is stopped"),
        ({"state": "D"}, Check.LIFE, LIMITED, "waits in the kernel"),
        ({"kernel_thread": True}, Check.KIND, BLOCKED, "a thread of the kernel"),
        ({"leader": 100}, Check.KIND, BLOCKED, "this very process"),
        ({"leader": 199}, Check.KIND, BLOCKED, "a thread of process 199"),
        ({"bits": 32}, Check.BITS, BLOCKED, "32-bit"),
        ({"tracer": 50, "tracer_name": "gdb"}, Check.TRACER, BLOCKED, r"process 50 \(gdb\)"),
        ({"dumpable": False}, Check.DUMPABLE, BLOCKED, "not dumpable"),
        ({"yama": 0}, Check.YAMA, Verdict.FINE, "ptrace_scope is 0"),
        ({"yama": 1}, Check.YAMA, BLOCKED, "ptrace_scope is 1"),
        ({"yama": 2}, Check.YAMA, BLOCKED, "ptrace_scope is 2"),
        ({"yama": 3}, Check.YAMA, BLOCKED, "ptrace_scope is 3"),
        ({"namespaces": ("pid", "mnt")}, Check.NAMESPACES, NOTE, "its pid and mnt namespaces"),
        ({"namespaces": ("user",)}, Check.NAMESPACES, LIMITED, "its user namespaces"),
        ({"first_in_namespace": True}, Check.NAMESPACES, NOTE, "process 1 of its pid namespace"),
        ({"seccomp": 1}, Check.SECCOMP, LIMITED, "strict"),
        ({"seccomp": 2}, Check.SECCOMP, LIMITED, "filters"),
        ({"shadow_stack": True}, Check.SHADOW_STACK, LIMITED, "return addresses"),
        ({"trap_ignored": True}, Check.SIGTRAP, LIMITED, "ignores SIGTRAP"),
        ({"trap_blocked": 1}, Check.SIGTRAP, LIMITED, "1 thread of it"),
        ({"realtime": True}, Check.SCHEDULING, LIMITED, "real-time"),
        ({"address_room": 8192}, Check.ADDRESS_SPACE, LIMITED, "8 KiB of address space"),
        ({"mapping_room": 3}, Check.MAPPINGS, LIMITED, "3 more mappings"),
        ({"kernel_probes": True}, Check.KERNEL_PROBES, NOTE, "uprobes"),
    ],
)
def test_what_is_wrong_is_found(change, check, verdict, fact):
    findings = judge(dataclasses.replace(GOOD, **change))
    (found,) = [finding for finding in findings if finding.check is check and finding.verdict is verdict]
    assert re.search(fact, found.fact)
    assert all(finding.verdict <= verdict for finding in findings)


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"uids": (0, 1000, 1000, 1000)}, Check.USER),
        ({"uids": (1000, 1000, 0, 1000)}, Check.USER),
        ({"gids": (1000, 50, 1000, 1000)}, Check.USER),
        ({"permitted": 1 << 10}, Check.CAPABILITIES),
    ],
)
def test_rights_that_we_lack(changes, check):
    blocked = [finding for finding in judge(with_subject(**changes)) if finding.verdict is BLOCKED]
    assert [finding.check for finding in blocked] == [check]
    assert "sudo" in blocked[0].hint


@pytest.mark.parametrize(
    "situation",
    [
        with_subject(uids=(0,) * 4, permitted=ROOT.permitted),
        dataclasses.replace(GOOD, dumpable=False),
        dataclasses.replace(GOOD, yama=1),
        dataclasses.replace(GOOD, yama=2),
    ],
)
def test_root_may(situation):
    verdicts = {finding.verdict for finding in judge(dataclasses.replace(situation, ours=ROOT))}
    assert verdicts <= {Verdict.FINE, Verdict.NOTE}


def test_a_capability_does_not_reach_into_another_user_namespace():
    capable = dataclasses.replace(USER, effective=CAP_SYS_PTRACE, permitted=CAP_SYS_PTRACE)
    there = dataclasses.replace(with_subject(uids=(7,) * 4), ours=capable)
    assert not any(finding.verdict is BLOCKED for finding in judge(there))
    apart = dataclasses.replace(there, namespaces=("user",))
    assert any(finding.verdict is BLOCKED for finding in judge(apart))


class TestGroups:
    @pytest.fixture
    def hierarchy(self, tmp_path):
        """A directory for a group and one for its parent: (leaf, parent)."""
        leaf = tmp_path / "leaf"
        leaf.mkdir()
        return leaf, tmp_path

    def groups(self, controller, hierarchy):
        return Groups({controller: tuple(map(str, hierarchy))})

    @pytest.mark.parametrize(
        ("controller", "file", "text", "frozen"),
        [
            ("", "cgroup.events", "populated 1\nfrozen 1\n", True),
            ("", "cgroup.events", "populated 1\nfrozen 0\n", False),
            ("freezer", "freezer.state", "FROZEN\n", True),
            ("freezer", "freezer.state", "FREEZING\n", True),
            ("freezer", "freezer.state", "THAWED\n", False),
        ],
    )
    def test_frozen(self, hierarchy, controller, file, text, frozen):
        for directory in hierarchy:
            (directory / file).write_text(text)
            groups = self.groups(controller, hierarchy)
            assert groups.frozen is frozen
            (directory / file).unlink()
        assert not self.groups(controller, hierarchy).frozen

    @pytest.mark.parametrize(
        ("controller", "limit", "usage"),
        [("", "memory.max", "memory.current"), ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes")],
    )
    def test_memory_is_that_of_the_tightest(self, hierarchy, controller, limit, usage):
        leaf, parent = hierarchy
        (leaf / limit).write_text("max\n" if not controller else "9223372036854771712\n")
        (leaf / usage).write_text("5000\n")
        assert self.groups(controller, hierarchy).memory_room is None
        (parent / limit).write_text("9000\n")
        (parent / usage).write_text("6000\n")
        assert self.groups(controller, hierarchy).memory_room == 3000
        (leaf / limit).write_text("5500\n")
        assert self.groups(controller, hierarchy).memory_room == 500
        (leaf / usage).write_text("6000\n")
        assert self.groups(controller, hierarchy).memory_room == 0

    def test_findings(self, hierarchy):
        leaf, _ = hierarchy
        (leaf / "cgroup.events").write_text("frozen 1\n")
        (leaf / "memory.max").write_text("40960\n")
        (leaf / "memory.current").write_text("8192\n")
        findings = judge(dataclasses.replace(GOOD, groups=self.groups("", hierarchy)))
        limited = {finding.check: finding.fact for finding in findings if finding.verdict is LIMITED}
        assert set(limited) == {Check.FREEZER, Check.MEMORY}
        assert "32 KiB" in limited[Check.MEMORY]

    def test_paths(self, monkeypatch):
        monkeypatch.setattr(cgroups, "_hierarchies", lambda: {"": "/cg/unified", "memory": "/cg/memory"})
        groups = read_groups("5:memory,other:/a/b\n3:cpu:/x\n0::/\n")
        assert groups.directories == {
            "memory": ("/cg/memory/a/b", "/cg/memory/a", "/cg/memory"),
            "": ("/cg/unified",),
        }


class TestRealProcesses:
    def test_an_ordinary_one(self, victim):
        one = victim("hot")
        require_traceable(one.pid)
        findings = examine(one.pid)
        assert not any(finding.verdict is BLOCKED for finding in findings)
        assert {Check.LIFE, Check.TRACER, Check.USER, Check.SECCOMP} <= {finding.check for finding in findings}

    def test_ourselves(self):
        with pytest.raises(UnsupportedTarget, match="no process can trace itself"):
            require_traceable(os.getpid())

    def test_a_thread(self, victim):
        one = victim("busy_threads")
        one.order(1)
        tids = [int(name) for name in os.listdir(f"/proc/{one.pid}/task")]
        for tid in set(tids) - {one.pid}:
            with pytest.raises(UnsupportedTarget, match=f"hint: give the process: -p {one.pid}"):
                require_traceable(tid)

    def test_a_thread_of_the_kernel(self):
        kernel = [pid for pid in map(str, range(2, 20)) if os.path.exists(f"/proc/{pid}/status")]
        kernel = [pid for pid in kernel if read_situation(int(pid)).kernel_thread]
        if not kernel:
            pytest.skip("threads of the kernel are not to be seen here")
        with pytest.raises(UnsupportedTarget, match="thread of the kernel"):
            require_traceable(int(kernel[0]))

    def test_a_32_bit_program(self, victim):
        small = victim("bits32", "-m32", "-nostdlib", "-static")
        with pytest.raises(UnsupportedTarget, match="32-bit"):
            require_traceable(small.pid)

    def test_one_that_has_a_tracer(self, victim):
        one, tracer = victim("hot"), victim("tracer")
        tracer.order(one.pid)
        tracer.wait_line("seized 1")
        with pytest.raises(AlreadyTraced, match="tracer") as caught:
            require_traceable(one.pid)
        assert caught.value.tracer == tracer.pid
        tracer.kill()  # or the other, once killed, would wait for it

    def test_one_that_ended(self):
        done = subprocess.Popen(["true"])
        os.waitid(os.P_PID, done.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(TargetGone, match=f"its parent, process {os.getpid()}"):
            require_traceable(done.pid)
        done.wait()
        with pytest.raises(TargetGone, match="no such process"):
            require_traceable(done.pid)

    def test_one_whose_first_thread_ended(self, victim):
        one = victim("leaderless")
        require_traceable(one.pid)
        (life,) = [finding for finding in examine(one.pid) if finding.check is Check.LIFE]
        assert (life.verdict, life.fact) == (Verdict.NOTE, "its first thread has ended; 1 is left")

    def test_a_stopped_one(self, victim):
        one = victim("hot")
        os.kill(one.pid, signal.SIGSTOP)
        wait_until(lambda: read_situation(one.pid).state == "T", "the victim stops")
        require_traceable(one.pid)

    @pytest.mark.parametrize(
        ("setting", "field", "value"),
        [
            ("signal.signal(signal.SIGTRAP, signal.SIG_IGN)", "trap_ignored", True),
            ("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTRAP])", "trap_blocked", 1),
            ("libc.prctl(38, 1, 0, 0, 0)", "no_new_privileges", True),
            ("libc.prctl(38, 1, 0, 0, 0); libc.prctl(22, 2, FILTER)", "seccomp", 2),
            ("resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))", "address_room", None),
        ],
    )
    def test_what_a_process_did_to_itself(self, setting, field, value):
        lines = [
            "import ctypes, resource, signal, struct",
            "libc = ctypes.CDLL(None)",
            "allow = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000))",
            "FILTER = struct.pack('HxxxxxxQ', 1, ctypes.addressof(allow))",
            setting,
            "print('ready', flush=True)",
            "input()",
        ]
        with Victim(["python3", "-c", "\n".join(lines)]) as one:
            found = getattr(read_situation(one.pid), field)
        if value is None:
            assert 0 < found < 1 << 40
        else:
            assert found == value

    @pytest.mark.root
    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
    def test_one_that_changed_its_user_is_not_dumpable(self):
        code = "import os; os.setgid(65534); os.setuid(65534); print('ready', flush=True); input()"
        with Victim(["python3", "-c", code]) as one:
            assert read_situation(one.pid).dumpable is False
        with Victim(["python3", "-c", "print('ready', flush=True); input()"], user="nobody") as one:
            assert read_situation(one.pid).dumpable is True

    @pytest.mark.root
    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces")
    def test_namespaces(self):
        code = "print('ready', flush=True); input()"
        with Victim(["unshare", "--mount", "python3", "-c", code]) as one:
            assert read_situation(one.pid).namespaces == ("mnt",)


class TestRefusalsOfTheKernel:
    def test_it_is_gone(self):
        error = explain_refusal(12, ProcessLookupError(errno.ESRCH, "No such process"))
        assert isinstance(error, TargetGone)

    def test_it_went_while_we_asked(self):
        done = subprocess.Popen(["true"])
        done.wait()
        assert isinstance(explain_refusal(done.pid, PermissionError(errno.EPERM, "no")), TargetGone)

    def test_nothing_explains_it(self, victim):
        one = victim("hot")
        error = explain_refusal(one.pid, PermissionError(errno.EPERM, "Operation not permitted"))
        assert isinstance(error, NotPermitted)
        assert "Operation not permitted" in str(error)
        assert "SELinux" in error.hint

    def test_of_another_user(self, victim, as_user):
        foreign = victim("hot").pid if os.geteuid() == 0 else 1
        if os.geteuid() and os.stat("/proc/1").st_uid == os.geteuid():
            pytest.skip("no process of another user")

        def ask():
            libc = ctypes.CDLL(None, use_errno=True)
            seize = 0x4206
            assert libc.ptrace(seize, foreign, None, None) == -1
            error = explain_refusal(foreign, OSError(ctypes.get_errno(), "refused"))
            return type(error).__name__, str(error)

        kind, text = as_user(ask)
        assert kind == "NotPermitted"
        assert "it runs as user" in text
