"""Putting right what a tracer that was killed has left in a process.

The journal says what was changed. Nothing in the process is believed: a patch is taken back only where memory has
exactly what we wrote and the mapped file what we replaced; an area is emptied only where the mapping is ours still.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from uprobe_core.linux.journal import area_kind, record_flag
from uprobe_core.trace import safety
from uprobe_core.trace.tracer import Tracer
from uprobes.areas import HEADER
from uprobes.errors import AlreadyTraced, TargetGone
from uprobes.guard import NAME, NAME_OFF
from uprobes.journal import Found, find, take
from uprobes.mapping import mapping_at
from uprobes.permission import explain_refusal, tracer_apart
from uprobes.process import read_image, read_mappings, stack_vaddr, start_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from uprobe_core.linux.journal import Journal as Records
    from uprobes.journal import Journal
    from uprobes.mapping import Mapping

STOP_MS: Final = 5000
_SLOTS: Final = frozenset({area_kind.AREA_SLOTS})


@dataclass(slots=True)
class Recovery:
    """What was done for one process."""

    pid: int
    gone: bool = False
    """The process has ended, or runs another program: nothing of ours is left, and only the journal was removed."""
    restored: int = 0
    """Patches taken back."""
    clean: int = 0
    """Patches that were not in the text (any more)."""
    foreign: list[int] = field(default_factory=list)
    """Addresses where memory is neither ours nor the file's: left alone."""
    areas: int = 0
    """Areas found to be ours, and emptied unless something had to stay."""
    complete: bool = True
    """False: a thread still stood in an area; both it and the journal stay until you recover again, later."""


def recover(pid: int | None = None) -> list[Recovery]:
    """Put right what dead tracers have left in process `pid`, or in every process that there is a journal of.

    Kept probes (left in place on purpose) are taken back only where `pid` names their process. AlreadyTraced: the
    tracer lives, or another one traces the process. TargetGone, NotPermitted, JournalError.
    """
    done = []
    for found in find(pid):
        if found.owner:
            if pid is not None and _is_same(found):
                raise AlreadyTraced(found.pid, found.owner, "its tracer lives")
            continue
        with contextlib.closing(take(found)) as journal:
            if pid is not None or not journal.records.kept:
                done.append(undo(journal))
    return done


def undo(journal: Journal) -> Recovery:
    """Take back what a journal of ours says, and remove it when nothing is left. Its tracer is dead."""
    records = journal.records
    recovery = Recovery(records.pid)
    try:
        recovery.gone = not _is_in_place(records)
    except TargetGone:
        recovery.gone = True
    if not recovery.gone:
        try:
            _in_owner(lambda: _undo(records, recovery))
        except TargetGone:
            recovery.gone = True
    if recovery.complete:
        journal.remove()
    return recovery


def _is_same(found: Found) -> bool:
    with contextlib.suppress(TargetGone):
        return start_time(found.pid) == found.start_time
    return False


def _is_in_place(records: Records) -> bool:
    """Whether the process is the one that the journal speaks of, and still runs the same program."""
    return start_time(records.pid) == records.start_time and stack_vaddr(records.pid) == records.stack_vaddr


def _in_owner(work: Callable[[], None]) -> None:
    """Run `work` in a thread that may own a tracer: one that takes no signals."""
    failures: list[BaseException] = []

    def body() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            work()
        except BaseException as error:  # raised below, in the caller's thread
            failures.append(error)

    thread = threading.Thread(target=body, name="uprobes-recover")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _undo(records: Records, recovery: Recovery) -> None:
    pid = records.pid
    tracer = Tracer(pid)
    try:
        tracer.start(tracer_apart())
    except OSError as error:
        raise explain_refusal(pid, error) from error
    try:
        mappings = read_mappings(pid)
        _adopt_areas(tracer, records, mappings, recovery)
        jumps = _adopt_patches(tracer, records, mappings, recovery)
        if jumps:
            _restore_jumps(tracer, jumps)
    finally:
        tracer.leave(0)
    recovery.complete = not tracer.unclean


def _adopt_areas(tracer: Tracer, records: Records, mappings: Sequence[Mapping], recovery: Recovery) -> None:
    for vaddr, size, kind, sealed in records.areas():
        mapping = mapping_at(mappings, vaddr)
        if kind == area_kind.AREA_BOARD or mapping is None or mapping.rights != "r-xp" or mapping.name:
            continue
        if mapping.end < vaddr + size:
            continue
        if kind == area_kind.AREA_TRAPS:
            before = records.signals()
            if before is None or tracer.read_some(vaddr + NAME_OFF, len(NAME)) != NAME:
                continue
            safety.adopt_guard(tracer, vaddr, before, sealed)
        elif kind in _SLOTS and tracer.read_some(vaddr, len(HEADER)) == HEADER:
            safety.adopt_arena(tracer, vaddr, size, sealed)
        else:
            continue
        recovery.areas += 1


def _adopt_patches(
    tracer: Tracer, records: Records, mappings: Sequence[Mapping], recovery: Recovery
) -> list[tuple[int, bytes]]:
    """Sites go to the tracer, which knows how to take them back; returned are patches of other kinds: where, and the
    original bytes."""
    others = []
    images: dict[int, memoryview] = {}
    for vaddr, original, patched, place_vaddr, flags, plan, operand in records.patches():
        mapping = mapping_at(mappings, vaddr)
        there = tracer.read_some(vaddr, len(patched))
        if mapping is None or not mapping.executable or there == original[: len(patched)]:
            recovery.clean += 1
            armed = False
        elif there == patched and not mapping.shared and _file_agrees(records.pid, mapping, images, vaddr, original):
            recovery.restored += 1
            armed = True
        else:
            recovery.foreign.append(vaddr)
            continue
        if mapping is None:
            continue
        if flags & record_flag.RECORD_JUMP or len(patched) > 1:
            if armed:
                others.append((vaddr, original[: len(patched)]))
        else:
            stepped = bool(flags & record_flag.RECORD_STEP)
            safety.adopt_site(tracer, vaddr, original, place_vaddr, plan, operand, stepped, armed)
    return others


def _file_agrees(pid: int, mapping: Mapping, images: dict[int, memoryview], vaddr: int, original: bytes) -> bool:
    """Whether the mapped file has the bytes that we replaced. Of code that is in no file only the journal knows."""
    if not mapping.is_file:
        return True
    if mapping.start not in images:
        images[mapping.start] = read_image(pid, mapping)
    offset = vaddr - mapping.start
    return bytes(images[mapping.start][offset : offset + len(original)]) == original


def _restore_jumps(tracer: Tracer, jumps: Sequence[tuple[int, bytes]]) -> None:
    """Bytes of several instructions are written while nobody runs; threads in a trampoline go on behind them."""
    tracer.stop_world(STOP_MS)
    try:
        for vaddr, original in jumps:
            tracer.write(vaddr, original)
    finally:
        tracer.resume_world()
