"""Where control goes within one function: how it leaves, and what is passed before what."""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Final

from uprobe_core.abi import insn_flow
from uprobes.insn import decode, decode_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from uprobes.insn import Insn

_BRANCHES: Final = frozenset({insn_flow.FLOW_JCC, insn_flow.FLOW_LOOP, insn_flow.FLOW_XBEGIN})
_DIRECT: Final = frozenset({insn_flow.FLOW_JMP, insn_flow.FLOW_JCC})
_RETURNS: Final = frozenset({insn_flow.FLOW_RET, insn_flow.FLOW_RET_FAR, insn_flow.FLOW_IRET})
_LEAVES: Final = _RETURNS | {insn_flow.FLOW_JMP, insn_flow.FLOW_JMP_INDIRECT, insn_flow.FLOW_JMP_FAR}
_ENDS: Final = _LEAVES | {insn_flow.FLOW_NEVER, insn_flow.FLOW_SYSRET}
_NOTRACK: Final = 0x3E
_ENDBR64: Final = b"\xf3\x0f\x1e\xfa"
_ADD: Final = (0x01, 0x03)
_LOOK_BACK: Final = 16
"""Instructions before a jump among which the one is looked for that computes where it goes."""


class Exit(StrEnum):
    """How a function is left for good."""

    RETURN = "return"
    TAIL_CALL = "tail call"
    """By a jump to another function, which returns in its place."""


class UnknownJump(Exception):  # noqa: N818 (not an error of the caller's)
    """A jump through an array of pointers: of labels (a `switch`), or of functions, which nothing tells apart."""

    def __init__(self, address: int) -> None:
        """`address` of the jump."""
        super().__init__(f"the jump at {address:#x} may or may not leave the function")
        self.address = address


def _is_indexed(insn: Insn) -> bool:
    """Whether it reads one of an array of pointers."""
    if insn.modrm is None or insn.offsets.modrm is None or insn.modrm >= 0xC0 or insn.modrm & 7 != 4:
        return False
    return insn.bytes[insn.offsets.modrm + 1] >> 6 == 3  # the index counts eight bytes


class ControlFlow:
    """The instructions of a function, decoded from its first byte on."""

    def __init__(self, code: bytes, start: int) -> None:
        """`start` is the address of the first byte."""
        self._code = code
        self._start = start
        listing = decode_all(code, start)
        self._addresses = list(listing.addresses)
        self._flows = list(listing.flows)
        self._targets = list(listing.targets)
        self._place = {address: place for place, address in enumerate(self._addresses)}

    # ---- leaving ----

    @property
    def outer_targets(self) -> set[int]:
        """Where direct jumps lead that leave these bytes."""
        end = self._start + len(self._code)
        jumps = (place for place, flow in enumerate(self._flows) if flow in _DIRECT)
        return {self._targets[place] for place in jumps if not self._start <= self._targets[place] < end}

    def exits(self, is_inside: Callable[[int], bool]) -> Iterator[tuple[int, Exit]]:
        """Address and manner of each instruction that leaves the function.

        `is_inside` tells whether an address is in another part of the same function. Raises :class:`UnknownJump`.
        """
        outside = {target for target in self.outer_targets if not is_inside(target)}
        for place, flow in enumerate(self._flows):
            if flow in _RETURNS:
                yield self._addresses[place], Exit.RETURN
            elif self._targets[place] in outside if flow in _DIRECT else self._leaves_indirectly(place):
                yield self._addresses[place], Exit.TAIL_CALL

    def _leaves_indirectly(self, place: int) -> bool:
        return self._flows[place] == insn_flow.FLOW_JMP_INDIRECT and not self._is_table_jump(place)

    def _insn(self, place: int) -> Insn:
        offset = self._addresses[place] - self._start
        return decode(self._code[offset : offset + 15], self._addresses[place])

    def _is_table_jump(self, place: int) -> bool:
        """Whether an indirect jump chooses among places of the function, by how compilers write that."""
        jump = self._insn(place)
        if jump.bytes[0] == _NOTRACK:  # with -fcf-protection only such a jump may land without endbr64
            return True
        if self._code.startswith(_ENDBR64):
            return False
        if _is_indexed(jump):
            raise UnknownJump(jump.address)
        if jump.modrm is None or jump.modrm < 0xC0:  # through the pointer in an object, or in the linkage table
            return False
        for earlier in range(place - 1, max(place - _LOOK_BACK, 0) - 1, -1):
            insn = self._insn(earlier)
            if insn.writes & jump.reads:
                if _is_indexed(insn):
                    raise UnknownJump(jump.address)
                # a table of distances from itself: one was loaded, and its own address is added
                return insn.encoding == "legacy" and insn.map == 0 and insn.opcode in _ADD
        return False

    # ---- order ----

    def dominated(self, addresses: Iterable[int]) -> set[int]:
        """Those of some addresses that are reached only by way of another of them, as far as that is certain."""
        wanted = [address for address in addresses if address in self._place]
        if len(wanted) < 2 or insn_flow.FLOW_JMP_INDIRECT in self._flows:
            return set()  # a jump that may go anywhere proves nothing
        found: set[int] = set()
        for avoided in wanted:
            reached = self._reachable_without(self._place[avoided])
            found |= {other for other in wanted if other != avoided and not reached[self._place[other]]}
        return found

    @cached_property
    def _successors(self) -> list[tuple[int, ...]]:
        last = len(self._addresses) - 1
        found: list[tuple[int, ...]] = []
        for place, flow in enumerate(self._flows):
            following = [] if flow in _ENDS or place == last else [place + 1]
            target = self._place.get(self._targets[place])
            if target is not None and (flow in _BRANCHES or flow == insn_flow.FLOW_JMP):
                following.append(target)
            found.append(tuple(following))
        return found

    @cached_property
    def _entries(self) -> list[int]:
        """The first instruction, and those that nothing in the function leads to, as where exceptions land."""
        led_to = {place for following in self._successors for place in following}
        return [place for place in range(len(self._addresses)) if place == 0 or place not in led_to]

    def _reachable_without(self, avoided: int) -> bytearray:
        """A flag for each instruction: whether control can come there without passing one."""
        reached = bytearray(len(self._addresses))
        waiting = deque(place for place in self._entries if place != avoided)
        while waiting:
            place = waiting.popleft()
            if not reached[place]:
                reached[place] = 1
                waiting.extend(each for each in self._successors[place] if each != avoided and not reached[each])
        return reached
