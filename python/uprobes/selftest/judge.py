"""The processor as the judge: an instruction runs natively and out of line from one state, and both must end alike."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uprobe_core.abi import PLAN_ONE_STOP, SLOT_SIZE
from uprobe_core.x86.rehearsal import Rehearsal
from uprobe_core.x86.relocate import Plan, plan
from uprobes.errors import SandboxError
from uprobes.selftest.registers import GENERAL, register_get, register_set, registers_unpack, selectors_normalise
from uprobes.selftest.sandbox import (
    DATA_ALIAS_VADDR,
    DATA_VADDR,
    PAGE,
    SITE_IP,
    SLOTS,
    STACK_VADDR,
    Sandbox,
    Stop,
)
from uprobes.selftest.state import IMAGE_SIZE, State, state_load

if TYPE_CHECKING:
    from collections.abc import Iterator

COMPARED = (*GENERAL, "rip", "eflags", "fs_base", "gs_base", "cs", "ss", "ds", "es", "fs", "gs")
_SITE_PAGE = SITE_IP // PAGE * PAGE
_RF = 0x1_0000  # set by the stop itself
_ID = 0x20_0000  # ptrace cannot set it
_X87_LAST = slice(6, 24)  # opcode, ip and operand of the last x87 instruction
_XSAVE_HEADER = slice(512, 576)  # which parts are in their initial state: an optimisation, not a value
_STEP_LIMIT = 300


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run an instruction out of line."""

    mode: str
    rip: str
    reach: str
    slot: str

    def __str__(self) -> str:
        """The choices in words."""
        return f"{self.mode}, rip {self.rip}, reach {self.reach}, slot {self.slot}"


VARIANTS = (
    Variant("trap", "auto", "near", "near"),
    Variant("trap", "displacement", "near", "near"),
    Variant("trap", "auto", "any", "far above"),
    Variant("trap", "auto", "none", "near"),
    Variant("step", "auto", "near", "near"),
    Variant("step", "auto", "any", "far below"),
    Variant("step", "scratch", "near", "far above"),
    Variant("step", "segment", "near", "far below"),
    Variant("step", "segment", "near", "below"),
)


@dataclass(frozen=True, slots=True)
class Result:
    """All that an instruction can have changed, and the fault that it raised (0 for none)."""

    signal: int
    code: int
    address: int
    registers: bytes
    xstate: bytes
    data: bytes
    stack: bytes

    def differences(self, other: Result) -> list[str]:
        """What is not equal, in words; empty when all is."""
        found = [
            f"{name} {getattr(self, name):#x} != {getattr(other, name):#x}"
            for name in ("signal", "code", "address")
            if getattr(self, name) != getattr(other, name)
        ]
        if self.registers != other.registers:
            ours, theirs = registers_unpack(self.registers), registers_unpack(other.registers)
            found += [f"{n} {ours[n]:#x} != {theirs[n]:#x}" for n in COMPARED if ours[n] != theirs[n]]
        for name in ("xstate", "data", "stack"):
            found += _image_differences(name, getattr(self, name), getattr(other, name))
        return found


def _image_differences(name: str, ours: bytes, theirs: bytes) -> list[str]:
    if ours == theirs:
        return []
    offsets = [i for i, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]]
    first = offsets[0]
    return [f"{len(offsets)} bytes of {name} from +{first:#x}: {ours[first]:#x} != {theirs[first]:#x}"]


class AccessError(Exception):
    """An emulated access found no memory: the processor has to run the instruction, and raise its fault."""


class Judge:
    """Runs instructions in a sandbox, natively and out of line."""

    def __init__(self, sandbox: Sandbox) -> None:
        """The sandbox is the caller's; nobody else may use it meanwhile."""
        self._sandbox = sandbox

    def native(self, code: bytes, state: State) -> Result:
        """Where it stands, with an int3 at every place to which it can go."""
        page = b"\xcc" * (SITE_IP - _SITE_PAGE) + code
        self._sandbox.write(_SITE_PAGE, page + b"\xcc" * (PAGE - len(page)))
        result = self.in_place(state)
        self._sandbox.write(SITE_IP, b"\xcc" * len(code))
        return result

    def in_place(self, state: State) -> Result:
        """Whatever stands at the site, run from there."""
        state_load(self._sandbox, state)
        stop = self._sandbox.run(register_set(state.registers, "rip", SITE_IP))
        return self._result(stop, _landed(stop))

    def plans(self, code: bytes) -> Iterator[tuple[Variant, Plan]]:
        """The variants that differ for this instruction, each with its plan, refused or not."""
        seen = set()
        for variant in VARIANTS:
            made = plan(code, SITE_IP, None, mode=variant.mode, rip=variant.rip, reach=variant.reach)
            key = (made.kind, made.copy_length, made.place, made.strategy, variant.slot, made.refusal)
            if key not in seen:
                seen.add(key)
                yield variant, made

    def out_of_line(self, code: bytes, state: State, variant: Variant) -> Result:
        """As the tracer would do it. The plan must not be a refused one."""
        hit, made, registers = self._arrange(code, state, variant)
        if made.kind & PLAN_ONE_STOP:
            return self._one_stop(hit, made, registers)
        return self._stepped(hit, registers)

    def boundaries(self, code: bytes, state: State, variant: Variant) -> list[int]:
        """Offsets in a boosted slot, its start left out, at which a signal can find the thread on the way through."""
        hit, made, registers = self._arrange(code, state, variant)
        if made.slot_ip is None or not hit.sets_ip() or hit.emulate_ip() != made.slot_ip:
            return []
        registers = register_set(registers, "rip", made.slot_ip)
        found: list[int] = []
        while True:
            registers = self._sandbox.run(registers, step=True).registers
            offset = register_get(registers, "rip") - made.slot_ip
            if not 0 < offset < len(made.slot) or offset in found:
                return found
            found.append(offset)

    def interrupted(self, code: bytes, state: State, variant: Variant, boundary: int) -> Result:
        """Boosted, but taken out of the slot at that offset, as for a signal, to go on outside."""
        hit, made, registers = self._arrange(code, state, variant)
        slot_ip = SLOTS[variant.slot]
        self._sandbox.write(slot_ip + boundary, b"\xcc")
        stop = self._sandbox.run(register_set(registers, "rip", slot_ip))
        if register_get(stop.registers, "rip") != slot_ip + boundary + 1:
            raise SandboxError(f"the slot's boundary {boundary} was not reached: {made!r}")
        outcome, registers = hit.resolve(_landed(stop))
        if outcome not in ("back", "done"):
            raise SandboxError(f"the slot's boundary {boundary} was resolved as {outcome}: {made!r}")
        if hit.write is not None:
            self._sandbox.write(*hit.write)
        if outcome == "back":
            self._sandbox.write(SITE_IP, code)
        stop = self._sandbox.run(registers)
        self._sandbox.write(SITE_IP, b"\xcc" * len(code))
        return self._result(stop, _landed(stop))

    def _arrange(self, code: bytes, state: State, variant: Variant) -> tuple[Rehearsal, Plan, bytes]:
        """The state and the slot put in place, and the registers at the hit."""
        slot_ip = SLOTS[variant.slot]
        made = plan(code, SITE_IP, slot_ip, mode=variant.mode, rip=variant.rip, reach=variant.reach)
        state_load(self._sandbox, state)
        self._sandbox.write(slot_ip, made.slot.ljust(SLOT_SIZE, b"\xcc"))
        identification = register_get(self._sandbox.registers(), "eflags") & _ID
        flags = register_get(state.registers, "eflags") | identification
        registers = register_set(state.registers, "eflags", flags)
        return Rehearsal(made), made, register_set(registers, "rip", SITE_IP)

    def _one_stop(self, hit: Rehearsal, made: Plan, registers: bytes) -> Result:
        if hit.sets_ip():
            registers = register_set(registers, "rip", hit.emulate_ip())
        else:
            registers = self._emulated(hit, registers)
        stop = self._sandbox.run(registers)
        if stop.signal == signal.SIGTRAP:
            return self._result(stop, _landed(stop))
        outcome, registers = hit.resolve(stop.registers)
        if outcome == "failed" and not _in_slot(stop, made):
            registers = stop.registers  # faulted where the instruction led
        elif outcome != "back":
            raise SandboxError(f"a fault in the slot was resolved as {outcome}: {made!r}")
        return self._result(stop, registers)

    def _emulated(self, hit: Rehearsal, registers: bytes) -> bytes:
        outcome, after = hit.emulate(registers)
        try:
            if hit.read is not None:
                outcome, after = hit.emulate(registers, self._sandbox.read(*hit.read))
            if outcome == "done" and hit.write is not None:
                self._sandbox.write(*hit.write)
        except OSError as error:
            raise AccessError(f"no memory for {hit.read or hit.write}") from error
        if outcome == "faults":
            raise AccessError("the branch leads to no address")
        return after

    def _stepped(self, hit: Rehearsal, registers: bytes) -> Result:
        registers = hit.begin(registers)
        for _ in range(_STEP_LIMIT):
            stop = self._sandbox.run(registers, step=True)
            if stop.signal != signal.SIGTRAP:
                return self._result(stop, hit.abort(stop.registers))
            outcome, registers = hit.finish(stop.registers)
            if outcome == "done":
                if hit.write is not None:
                    self._sandbox.write(*hit.write)
                stop = self._sandbox.run(registers)
                return self._result(stop, _landed(stop))
            if outcome == "failed":
                raise SandboxError(f"the step ended at 0x{register_get(stop.registers, 'rip'):x}")
        raise SandboxError(f"not finished after {_STEP_LIMIT} steps")

    def _result(self, stop: Stop, registers: bytes) -> Result:
        """stop: of which only the fault counts; registers: as they would be seen at the original address."""
        faulted = stop.signal not in (0, signal.SIGTRAP)
        xstate = bytearray(self._sandbox.xstate())
        for part in (_X87_LAST, _XSAVE_HEADER):
            xstate[part] = bytes(part.stop - part.start)
        registers = register_set(registers, "eflags", register_get(registers, "eflags") & ~(_RF | _ID))
        registers = register_set(registers, "orig_rax", 0)
        registers = selectors_normalise(registers)
        stack = bytearray(self._sandbox.read(STACK_VADDR, IMAGE_SIZE))
        if faulted:
            # An indirect call whose operand faults has pushed already: dead bytes, which it overwrites when it runs.
            below = register_get(registers, "rsp") - 8 - STACK_VADDR
            if 0 <= below <= IMAGE_SIZE - 8:
                stack[below : below + 8] = bytes(8)
        return Result(
            stop.signal if faulted else 0,
            stop.code if faulted else 0,
            _fault_address(stop) if faulted else 0,
            registers,
            bytes(xstate),
            self._sandbox.read(DATA_VADDR, IMAGE_SIZE) + self._sandbox.read(DATA_ALIAS_VADDR, IMAGE_SIZE),
            bytes(stack),
        )


def _in_slot(stop: Stop, made: Plan) -> bool:
    return made.slot_ip is not None and 0 <= register_get(stop.registers, "rip") - made.slot_ip < len(made.slot)


def _landed(stop: Stop) -> bytes:
    """Registers before the int3 that ended a run."""
    if stop.signal != signal.SIGTRAP:
        return stop.registers
    return register_set(stop.registers, "rip", register_get(stop.registers, "rip") - 1)


def _fault_address(stop: Stop) -> int:
    """The address of the fault; 0 for signals whose address is that of the instruction, which the tracer rebases."""
    return 0 if stop.signal in (signal.SIGFPE, signal.SIGILL, signal.SIGTRAP) else stop.address
