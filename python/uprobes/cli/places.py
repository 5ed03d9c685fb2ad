"""Places of a process or a file with their bytes, found without attaching to anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from uprobes.cli.files import open_file
from uprobes.insn import decode_all
from uprobes.process import read_mappings, read_modules, topmost_end
from uprobes.refusal import Refusal
from uprobes.resolve import resolve
from uprobes.spec import ProbeSpec, parse
from uprobes.symbols.locate import locate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from uprobes.place import Place
    from uprobes.symbols.binary import Binary
    from uprobes.symbols.location import Location

INSN_MAX: Final = 15
PAGE: Final = 4096


@dataclass(frozen=True, slots=True)
class Found:
    """One place: what it is called, where it lies, and what is there.

    `address` is in the process, or the file's own where `pid` is None. `code` begins there. `slot_vaddr` is where
    a slot would be asked for.
    """

    pid: int | None
    module: str | None
    symbol: str | None
    offset: int
    address: int
    code: bytes
    slot_vaddr: int
    refusal: Refusal | None
    hint: str | None
    """With INSIDE: where the instructions around it begin."""
    aliases: tuple[str, ...]
    is_ifunc: bool

    @property
    def name(self) -> str:
        """``libc.so.6:malloc+0x4``, or the address."""
        if self.symbol is None:
            return f"{self.address:#x}"
        module = f"{self.module.rpartition('/')[2]}:" if self.module else ""
        return f"{module}{self.symbol}" + (f"+{self.offset:#x}" if self.offset else "")

    def describe(self) -> str:
        """Address, file, and the other names of the function."""
        where = f" of process {self.pid}" if self.pid is not None else ""
        file = f", {self.module}" if self.module else ""
        also = f", also {' '.join(self.aliases[:3])}" if self.aliases else ""
        once = ", which the loader calls once to choose the function that is used" if self.is_ifunc else ""
        return f"{self.address:#x}{where}{file}{also}{once}"

    def fields(self) -> dict[str, Any]:
        """For JSON."""
        return {"pid": self.pid, "module": self.module, "symbol": self.symbol, "offset": self.offset}


def find_places(spec: str, pid: int | None) -> list[Found]:
    """Every place that `spec` stands for, in process `pid`, or in the file that its module names."""
    parsed = parse(spec)
    return list(_in_file(parsed) if pid is None else _in_process(parsed, pid))


def _in_file(spec: ProbeSpec) -> Iterator[Found]:
    with open_file(spec) as binary:
        end = max(segment.end_vaddr for segment in binary.elf.load_segments)
        for location in locate(spec, binary):
            yield _from_location(location, binary, _page_after(end))


def _from_location(location: Location, binary: Binary, slot_vaddr: int) -> Found:
    def read(vaddr: int, size: int) -> bytes:
        end = next((end for start, end in binary.elf.code_ranges if start <= vaddr < end), vaddr)
        return binary.elf.read(vaddr, min(size, end - vaddr))

    refusal, hint = _check_start(location.start_vaddr, location.vaddr, location.symbol_vaddr, location.symbol, read)
    return Found(
        pid=None,
        module=location.module,
        symbol=location.symbol,
        offset=location.offset,
        address=location.vaddr,
        code=read(location.vaddr, INSN_MAX),
        slot_vaddr=slot_vaddr,
        refusal=refusal,
        hint=hint,
        aliases=location.aliases,
        is_ifunc=location.is_ifunc,
    )


def _in_process(spec: ProbeSpec, pid: int) -> Iterator[Found]:
    places = resolve(spec, read_modules(pid), pid)
    slot_vaddr = topmost_end(read_mappings(pid)) + PAGE
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:

        def read(vaddr: int, size: int) -> bytes:
            try:
                memory.seek(vaddr)
                return memory.read(size)
            except OSError:  # nothing is mapped there
                return b""

        for place in places:
            yield _from_place(place, pid, read, slot_vaddr)


def _from_place(place: Place, pid: int, read: Callable[[int, int], bytes], slot_vaddr: int) -> Found:
    refusal, hint = _check_start(place.start_vaddr, place.vaddr, place.vaddr - place.offset, place.symbol, read)
    code = read(place.vaddr, INSN_MAX)
    return Found(
        pid=pid,
        module=place.module,
        symbol=place.symbol,
        offset=place.offset,
        address=place.vaddr,
        code=code,
        slot_vaddr=slot_vaddr,
        refusal=refusal if code else Refusal.NOT_EXECUTABLE,
        hint=hint,
        aliases=place.location.aliases if place.location else (),
        is_ifunc=False,
    )


def _check_start(
    start: int | None, vaddr: int, symbol_vaddr: int | None, symbol: str | None, read: Callable[[int, int], bytes]
) -> tuple[Refusal | None, str | None]:
    """Whether an instruction begins at `vaddr`, as far as decoding from `start` tells, and else where one does."""
    if start is None:
        return Refusal.NO_START, Refusal.NO_START.hint
    addresses = list(decode_all(read(start, vaddr - start + 2 * INSN_MAX), start).addresses)
    if vaddr == start or vaddr in addresses:
        return None, None
    before = max((each for each in addresses if each < vaddr), default=start)
    after = min((each for each in addresses if each > vaddr), default=vaddr)
    near = (f"{symbol}+{each - (symbol_vaddr or 0):#x}" if symbol else f"{each:#x}" for each in (before, after))
    return Refusal.INSIDE, f"probe {' or '.join(near)}"


def _page_after(vaddr: int) -> int:
    return -(-vaddr // PAGE) * PAGE + PAGE
