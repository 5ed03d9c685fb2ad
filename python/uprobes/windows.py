"""Where a jump can take the place of instructions: the windows of a file's code, for mode `jump`."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple

from uprobe_core.x86 import windows as core
from uprobes.refusal import Refusal
from uprobes.symbols.binary import Binary
from uprobes.symbols.code_pointers import read_text
from uprobes.symbols.source import FileSource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uprobe_core.x86.targets import Text
    from uprobes.symbols.elf import ElfFile

KEPT: Final = 64
"""Files whose windows are kept: as many as a process has modules that anyone probes."""
_kept: OrderedDict[object, ModuleWindows] = OrderedDict()
_lock: Final = Lock()


class Windows(NamedTuple):
    """Columns of equal length, in the order of the sites that were asked for."""

    starts: array[int]
    """"Q": the address at which the jump is written; 0 where there is no window."""
    lengths: array[int]
    """"B": bytes of whole instructions, five or more; 0 where there is no window."""
    refusals: array[int]
    """"B": a :class:`~uprobes.refusal.Refusal`; NONE where there is a window."""


class ModuleWindows:
    """The windows of one file. All addresses are the file's own. Any thread may use it."""

    def __init__(self, text: Text | None, binary: Binary) -> None:
        """`text` as of read_text(); None where nothing is known of the code."""
        self.text = text
        self._forbidden = binary.forbidden
        self._functions = binary.functions

    @cached_property
    def entries(self) -> frozenset[int]:
        """Where functions are called: known starts, but not those of parts that the compiler moved away.

        Such a part has an unwind entry as a function has, but nothing has its address and nothing calls it.
        """
        named = {symbol.vaddr for symbol in self._functions.matching("*") if symbol.is_function}
        is_entered = self.text.is_entered if self.text is not None else named.__contains__
        frames = self._functions.frames
        return frozenset(
            start
            for start in self._functions.entries
            if start in named or (is_entered(start) and not frames.begins_framed(start))
        )

    def find(self, sites: Iterable[int], *, fault_first: bool = False, single: bool = False) -> Windows:
        """The window of each site; rising sites are found fastest.

        Two sites of one window have the same start. `fault_first`: the target handles SIGSEGV, SIGBUS or SIGFPE, so
        that an instruction that may fault has to begin its window. `single`: a window has one instruction, as in
        programs whose runtime keeps addresses of interrupted code (Go).
        """
        wanted = sites if isinstance(sites, array) and sites.typecode == "Q" else array("Q", sites)
        count = len(wanted)
        if self.text is None:
            refusals = array("B", [Refusal.NO_START]) * count
            return Windows(array("Q", bytes(8 * count)), array("B", bytes(count)), refusals)
        found = Windows(*core.find(self.text, wanted, fault_first=fault_first, single=single))
        for each in self._forbidden:
            for index, site in enumerate(wanted):
                if each.start <= site < each.end:
                    found.refusals[index] = each.refusal
        return found


def module_windows(file: str | ElfFile | Binary) -> ModuleWindows:
    """The windows of a file, by its path or opened; kept for as long as the file does not change.

    Raises what :class:`~uprobes.symbols.elf.ElfFile` raises.
    """
    if isinstance(file, str):
        with Binary.open(file) as binary:
            return module_windows(binary)
    binary = file if isinstance(file, Binary) else Binary(file)
    source = binary.elf.source
    identity = source.identity if isinstance(source, FileSource) else None
    with _lock:
        if identity in _kept:
            _kept.move_to_end(identity)
            return _kept[identity]
    made = ModuleWindows(read_text(binary), binary)
    if identity is not None:
        with _lock:
            _kept[identity] = made
            while len(_kept) > KEPT:
                _kept.popitem(last=False)
    return made
