"""The child in which instructions run, and what is said when it cannot be made or is lost."""

import mmap
import os
import signal
import subprocess
import sys

import pytest

from tests.process import ENVIRONMENT
from uprobes.errors import SandboxError
from uprobes.selftest.registers import register_get, register_set
from uprobes.selftest.sandbox import DATA_VADDR, SITE_IP, Sandbox

FOREVER = b"\xeb\xfe"
# A page where the sandbox wants its own.
TAKEN = f"""
import ctypes, uprobes.selftest.sandbox as sandbox
libc = ctypes.CDLL(None)
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
libc.mmap({SITE_IP & ~(mmap.PAGESIZE - 1)}, 4096, 0, 0x100022, -1, 0)
sandbox.Sandbox()
"""


def test_runs_what_is_there(sandbox):
    sandbox.write(SITE_IP, b"\x48\x89\xc8\xcc")  # mov rax, rcx
    registers = register_set(register_set(sandbox.registers(), "rcx", 0x1234), "rip", SITE_IP)
    stop = sandbox.run(registers)
    assert (stop.signal, register_get(stop.registers, "rax")) == (signal.SIGTRAP, 0x1234)


def test_endless_loop_is_ended():
    with Sandbox() as lost:
        lost.write(SITE_IP, FOREVER)
        with pytest.raises(SandboxError, match="without a trap"):
            lost.run(register_set(lost.registers(), "rip", SITE_IP))


def test_no_memory_is_an_os_error(sandbox):
    for vaddr in (0x10, 1 << 63):
        with pytest.raises(OSError, match=r"I/O error|Bad address|Input/output"):
            sandbox.read(vaddr, 8)
        with pytest.raises(OSError, match=r"I/O error|Bad address|Input/output"):
            sandbox.write(vaddr, b"x")
    sandbox.write(DATA_VADDR, b"there")
    assert sandbox.read(DATA_VADDR, 5) == b"there"


def test_leaves_no_process():
    with Sandbox() as made:
        pid = made.pid
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_taken_addresses_are_named():
    done = subprocess.run([sys.executable, "-c", TAKEN], capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert "SandboxError: the sandbox's addresses are taken in this process; hint: " in done.stderr
