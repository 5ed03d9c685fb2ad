"""Places of a process or a file with their bytes, found without attaching to anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from uprobes.areas import REACH
from uprobes.boundaries import enclosing_instruction, neighbours
from uprobes.cli.files import open_file
from uprobes.errors import DecodeError
from uprobes.guard import blocks_traps
from uprobes.insn import decode, decode_all
from uprobes.places import Places
from uprobes.process import find_hole, handles_faults, has_shadow_stack, read_mappings, read_modules, topmost_end
from uprobes.refusal import Refusal
from uprobes.resolve import resolve
from uprobes.soundness import sound_places
from uprobes.spec import ProbeSpec, parse
from uprobes.symbols.locate import locate
from uprobes.windows import module_windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from uprobes.place import Place
    from uprobes.process import Mapping, Module
    from uprobes.symbols.binary import Binary
    from uprobes.symbols.location import Location
    from uprobes.windows import JumpSite

INSN_MAX: Final = 15
PAGE: Final = 4096


@dataclass(frozen=True, slots=True)
class Room:
    """Where slots would be asked for: at `top`, or in a hole between `mappings` where they have to be near."""

    top: int
    mappings: Sequence[Mapping] = ()

    def slot_vaddr(self, place: str, address: int, target: int | None) -> int | None:
        """For an instruction at `address`, by Plan.place; `target` is what the slot has to reach. None: no room."""
        if place == "below":
            near = (0, address)
        elif place == "near" and target is not None:
            near = (max(address, target) - REACH, min(address, target) + REACH)
        else:
            return self.top
        return find_hole(self.mappings, PAGE, near) if self.mappings else min(self.top, near[1] - PAGE) // PAGE * PAGE


@dataclass(frozen=True, slots=True)
class Found:
    """One place: what it is called, where it lies, and what is there.

    `address` is in the process, or the file's own where `pid` is None. `code` begins there, as the file has it.
    `room` is where a slot could lie.
    """

    pid: int | None
    module: str | None
    symbol: str | None
    offset: int
    address: int
    code: bytes
    room: Room
    refusal: Refusal | None
    hint: str | None
    """With INSIDE: where the instructions around it begin."""
    shadow_stack: bool
    """Whether the processor checks the process's return addresses."""
    aliases: tuple[str, ...]
    is_ifunc: bool
    jump: JumpSite | None
    """How a jump would probe it; None where no file is known. Its addresses are the file's own."""
    bias: int
    """What the process adds to those."""

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


def find_places(spec: str, pid: int | None, mode: str = "auto") -> list[Found]:
    """Every place that `spec` stands for, in process `pid`, or in the file that its module names; refused as a probe of
    that mode would be."""
    parsed = parse(spec)
    return list(_in_file(parsed) if pid is None else _in_process(parsed, pid, mode))


def _in_file(spec: ProbeSpec) -> Iterator[Found]:
    with open_file(spec) as binary:
        end = max(segment.end_vaddr for segment in binary.elf.load_segments)
        for location in locate(spec, binary):
            yield _from_location(location, binary, Room(_page_after(end)))


def _from_location(location: Location, binary: Binary, room: Room) -> Found:
    def read(vaddr: int, size: int) -> bytes:
        end = next((end for start, end in binary.elf.code_ranges if start <= vaddr < end), vaddr)
        return binary.elf.read(vaddr, min(size, end - vaddr))

    refusal, hint = _check_start(location.start_vaddr, location.vaddr, location.symbol_vaddr, location.symbol, read)
    refusal = binary.refusal_at(location.vaddr) or refusal
    return Found(
        pid=None,
        module=location.module,
        symbol=location.symbol,
        offset=location.offset,
        address=location.vaddr,
        code=read(location.vaddr, INSN_MAX),
        room=room,
        refusal=refusal,
        hint=hint,
        shadow_stack=False,
        aliases=location.aliases,
        is_ifunc=location.is_ifunc,
        jump=module_windows(binary).site(location.vaddr),
        bias=0,
    )


def _in_process(spec: ProbeSpec, pid: int, mode: str) -> Iterator[Found]:
    modules = read_modules(pid)
    places = Places(resolve(spec, modules, pid), (), modules)
    fault_first = handles_faults(pid)
    mappings = read_mappings(pid)
    room = Room(topmost_end(mappings) + PAGE, mappings)
    refusals: dict[int, Refusal] = {}
    codes: dict[int, bytes] = {}
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:

        def read(vaddr: int) -> bytes:
            try:
                memory.seek(vaddr)
                return memory.read(INSN_MAX)
            except (OSError, OverflowError):  # nothing is mapped there
                return b""

        for mapping, image, indices in sound_places(pid, places, refusals):
            for index in indices:
                off = places.vaddrs[index] - mapping.start
                codes[index] = bytes(image[off : off + INSN_MAX])
                if _is_changed(codes[index], read(places.vaddrs[index])):
                    refusals[index] = Refusal.CHANGED
        if mode == "auto" and blocks_traps(pid):
            refusals |= dict.fromkeys(range(len(places)), Refusal.SIGTRAP) | places.refusals
        for index, place in enumerate(places):
            code = codes[index] if index in codes else read(place.vaddr)
            jump = _jump_at(place, modules, fault_first)
            yield _from_place(place, pid, code, room, refusals.get(index), jump)


def _is_changed(code: bytes, memory: bytes) -> bool:
    """Whether memory has not the instruction that the file has."""
    try:
        insn = decode(code)
    except DecodeError:
        return False
    return memory[: insn.length] != insn.bytes


def _jump_at(place: Place, modules: Sequence[Module], fault_first: bool) -> tuple[JumpSite | None, int]:
    """How a jump would probe a place of a process, and what the process adds to the file's addresses."""
    module = next((module for module in modules if place.vaddr in module), None)
    if module is None:
        return None, 0
    return module_windows(module.binary).site(module.vaddr_of(place.vaddr), fault_first=fault_first), module.bias


def _from_place(
    place: Place, pid: int, code: bytes, room: Room, refusal: Refusal | None, jump: tuple[JumpSite | None, int]
) -> Found:
    hint = None
    if refusal is Refusal.INSIDE and (insn := enclosing_instruction(place, pid)) is not None:
        hint = f"probe {' or '.join(neighbours(place, insn))}"
    return Found(
        pid=pid,
        module=place.module,
        symbol=place.symbol,
        offset=place.offset,
        address=place.vaddr,
        code=code,
        room=room,
        refusal=refusal,
        hint=hint,
        shadow_stack=has_shadow_stack(pid),
        aliases=place.location.aliases if place.location else (),
        is_ifunc=False,
        jump=jump[0],
        bias=jump[1],
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
