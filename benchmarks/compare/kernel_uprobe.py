"""The kernel's uprobe on hard instructions, and ours beside it: python -m benchmarks.compare.kernel_uprobe (as root).

Each instruction runs from one state natively, under a uprobe of the kernel (tracefs) and in each of our ways;
everything that it can have changed is compared. Prints a Markdown table.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uprobes.errors import SandboxError
from uprobes.selftest.hard import HARD
from uprobes.selftest.judge import AccessError, Judge
from uprobes.selftest.registers import register_get, register_set
from uprobes.selftest.sandbox import DATA_VADDR, PAGE, SITE_IP, SLOTS, Sandbox
from uprobes.selftest.state import StateMaker

SITE_PAGE = SITE_IP // PAGE * PAGE
PROBE = "uprobes_compare/site"
O_RDONLY, PROT_READ_EXEC, MAP_PRIVATE_FIXED = 0, 5, 0x12
ENOTSUPP = 524  # the kernel's own number, which leaks out
SYS_OPEN, SYS_CLOSE, SYS_MMAP = 2, 3, 9


@contextmanager
def tracefs() -> Iterator[Path]:
    """Where tracefs is, mounted for the moment if need be."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["mount", "-t", "tracefs", "tracefs", directory], check=True)
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", directory], check=True)


def define(trace: Path, line: str) -> None:
    """Add or remove a uprobe. (Not by open(…, "a"), which seeks to the end: tracefs cannot.)"""
    descriptor = os.open(trace / "uprobe_events", os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


@contextmanager
def uprobe(trace: Path, file: Path, offset: int = SITE_IP - SITE_PAGE) -> Iterator[None]:
    """A uprobe at an offset in a file. OSError where the kernel refuses it."""
    define(trace, f"p:{PROBE} {file}:{offset:#x}\n")
    enable = trace / "events" / PROBE / "enable"
    try:
        enable.write_text("1")
        yield
    finally:
        enable.write_text("0")
        define(trace, f"-:{PROBE}\n")


def hits(trace: Path) -> int:
    """How often the uprobe fired: file, event and count in a line."""
    event = PROBE.partition("/")[2]
    lines = [line.split() for line in (trace / "uprobe_profile").read_text().splitlines()]
    return sum(int(count) for _, name, count, *_ in lines if name == event)


def system_call(sandbox: Sandbox, registers: bytes, number: int, *arguments: int) -> int:
    """Made by the sandbox; the result."""
    sandbox.write(SLOTS["near"], b"\x0f\x05\xcc")
    names = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
    for name, value in zip(("rax", "rip", *names), (number, SLOTS["near"], *arguments), strict=False):
        registers = register_set(registers, name, value)
    return register_get(sandbox.run(registers).registers, "rax")


def map_site(sandbox: Sandbox, registers: bytes, file: Path) -> None:
    """Put the file's first page where the sandbox runs instructions."""
    sandbox.write(DATA_VADDR, os.fsencode(file) + b"\0")
    descriptor = system_call(sandbox, registers, SYS_OPEN, DATA_VADDR, O_RDONLY, 0)
    place = system_call(sandbox, registers, SYS_MMAP, SITE_PAGE, PAGE, PROT_READ_EXEC, MAP_PRIVATE_FIXED, descriptor, 0)
    system_call(sandbox, registers, SYS_CLOSE, descriptor)
    if place != SITE_PAGE:
        raise SandboxError(f"mmap in the sandbox gave {place:#x}")


def kernel_verdict(trace: Path, code: bytes, control: bool) -> str:
    """What the kernel's uprobe makes of the instruction."""
    with Sandbox() as sandbox, tempfile.NamedTemporaryFile(dir=Path.cwd() / "build") as file:
        before = SITE_IP - SITE_PAGE
        file.write((b"\xcc" * before + code).ljust(PAGE, b"\xcc"))
        file.flush()
        judge, state = Judge(sandbox), StateMaker(sandbox).make(control=control)
        map_site(sandbox, state.registers, Path(file.name))
        native = judge.in_place(state)
        try:
            with uprobe(trace, Path(file.name)):
                found = judge.in_place(state).differences(native)
                fired = hits(trace)
        except OSError as error:
            if error.errno != ENOTSUPP:
                raise
            return "refused"
    if found:
        return "**wrong**: " + "; ".join(found[:2])
    return "right" if fired else "**never fires**"


def our_verdict(code: bytes, control: bool) -> str:
    """What each of our ways makes of it."""
    wrong, ways = [], set()
    with Sandbox() as sandbox:
        judge, state = Judge(sandbox), StateMaker(sandbox).make(control=control)
        native = judge.native(code, state)
        for variant, made in judge.plans(code):
            if not made.refusal and made.kind_name != "step in place":
                ways.add(made.kind_name)
                try:
                    wrong += judge.out_of_line(code, state, variant).differences(native)
                except AccessError:
                    wrong += [] if native.signal else ["no memory"]
    return "**wrong**: " + "; ".join(wrong[:2]) if wrong else f"right, {len(ways)} ways"


def main() -> int:
    """Print the table."""
    print("| instruction | bytes | kernel's uprobe | uprobes |\n|---|---|---|---|")
    (Path.cwd() / "build").mkdir(exist_ok=True)
    with tracefs() as trace:
        for name, form in HARD.items():
            kernel = kernel_verdict(trace, form.code, form.control)
            print(
                f"| `{name}` | `{form.code.hex(' ')}` | {kernel} | {our_verdict(form.code, form.control)} |", flush=True
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
