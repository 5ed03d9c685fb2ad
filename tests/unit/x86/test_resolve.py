"""Out of a slot at each of its boundaries; that the program cannot tell is proven in integration/out_of_line."""

import pytest

from uprobe_core.x86.rehearsal import Rehearsal
from uprobe_core.x86.relocate import plan
from uprobes.selftest.registers import REGISTERS, registers_pack, registers_unpack

IP = 0x7F00_0000_1000
NEAR = IP + 0x10_0000
FAR = 0x1000_0000_0000
STACK = 0x7FFF_0000_0000
RESTART = (1 << 64) - 512


def registers(**changes):
    values = dict.fromkeys(REGISTERS, 0) | {"rsp": STACK, "eflags": 0x202, "orig_rax": (1 << 64) - 1}
    return values | changes


class Slot:
    """A thread that stands in a slot."""

    def __init__(self, code, slot=NEAR, **options):
        self.ip = slot
        self.rehearsal = Rehearsal(plan(bytes.fromhex(code), IP, slot, **{"mode": "trap"} | options))

    def at(self, offset, **changes):
        outcome, after = self.rehearsal.resolve(registers_pack(registers(rip=self.ip + offset, **changes)))
        return outcome, registers_unpack(after)


@pytest.mark.parametrize("code", ["55", "e8 10 00 00 00", "75 10", "0f 05", "c3", "ff 13", "f3 a4", "9d", "90"])
def test_at_the_start_nothing_has_run(code):
    assert Slot(code).at(0) == ("back", registers(rip=IP))


@pytest.mark.parametrize("slot", [NEAR, FAR])
@pytest.mark.parametrize("code", ["55", "48 89 e5", "f3 a4", "9d", "cd 80"])
def test_behind_the_copy_the_instruction_is_done(code, slot):
    length = len(bytes.fromhex(code))
    assert Slot(code, slot).at(length) == ("done", registers(rip=IP + length))


def test_behind_a_constant():
    assert Slot("48 8d 05 10 00 00 00").at(10) == ("done", registers(rip=IP + 7))


def test_lea_whose_strategy_was_forced():
    slot = Slot("48 8d 05 10 00 00 00", rip="displacement")
    assert slot.at(7) == ("done", registers(rip=IP + 7))
    assert slot.at(10)[0] == "failed"


@pytest.mark.parametrize(("slot", "taken_off"), [(NEAR, 7), (FAR, 8)])
def test_branch_not_taken_and_taken(slot, taken_off):
    assert Slot("75 10", slot).at(2) == ("done", registers(rip=IP + 2))
    assert Slot("75 10", slot).at(taken_off) == ("done", registers(rip=IP + 0x12))


def test_call_between_the_halves_of_its_return_address():
    slot = Slot("e8 10 00 00 00")
    assert slot.at(5, rsp=STACK - 8) == ("done", registers(rip=IP + 0x15, rsp=STACK - 8))
    assert slot.rehearsal.write == (STACK - 4, (0x7F00).to_bytes(4, "little"))


def test_call_behind_its_return_address():
    slot = Slot("e8 10 00 00 00")
    assert slot.at(13, rsp=STACK - 8) == ("done", registers(rip=IP + 0x15, rsp=STACK - 8))
    assert slot.rehearsal.write is None


@pytest.mark.parametrize("code", ["ff d0", "ff 13", "ff 15 10 00 00 00"])
@pytest.mark.parametrize("offset", [5, 13])
def test_indirect_call_takes_its_push_back(code, offset):
    assert Slot(code).at(offset, rsp=STACK - 8) == ("back", registers(rip=IP))


@pytest.mark.parametrize("offset", [2, 12])
def test_system_call_done(offset):
    assert Slot("0f 05").at(offset, rax=5, rcx=1) == ("done", registers(rip=IP + 2, rax=5, rcx=IP + 2))


def test_system_call_that_the_kernel_will_restart():
    waiting = {"rax": RESTART, "orig_rax": 0}
    assert Slot("0f 05").at(2, **waiting) == ("restart", registers(rip=IP + 2, rcx=IP + 2, **waiting))
    assert Slot("cd 80").at(2, **waiting) == ("restart", registers(rip=IP + 2, **waiting))


@pytest.mark.parametrize("offset", [2, 3])
def test_child_that_starts_behind_a_stepped_system_call(offset):
    slot = Slot("0f 05", mode="step")
    child = slot.at(offset, rcx=NEAR + 2, r11=0x302)
    assert child == ("done", registers(rip=IP + 2, rcx=IP + 2, r11=0x202))


def test_stepped_slot_belongs_to_the_step():
    assert Slot("55", mode="step").at(1)[0] == "failed"


@pytest.mark.parametrize(
    ("code", "offset"),
    [("55", 2), ("55", -1), ("55", 32), ("48 89 e5", 1), ("75 10", 3), ("e8 10 00 00 00", 4), ("0f 05", 3), ("c3", 1)],
)
def test_between_instructions_or_outside_nothing_is_touched(code, offset):
    assert Slot(code).at(offset) == ("failed", registers(rip=NEAR + offset))
