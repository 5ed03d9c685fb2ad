"""Effects worked out without running; that they are the processor's is proven in integration/out_of_line."""

import pytest

from uprobe_core.x86.rehearsal import Rehearsal
from uprobe_core.x86.relocate import plan
from uprobes.selftest.registers import REGISTERS, registers_pack, registers_unpack

IP = 0x7F00_0000_1000
SLOT = 0x1000_0000_0000
STACK = 0x7FFF_0000_0000
ZF, TF = 0x40, 0x100


def registers(**changes):
    values = dict.fromkeys(REGISTERS, 0) | {"rsp": STACK, "eflags": 0x202, "rip": IP, "rbx": 0x1000, "rcx": 4}
    return values | changes


class Hit:
    """A hit of a site; memory is a dict of addresses to bytes."""

    def __init__(self, code, *, slot=None, memory=None, reach="none"):
        self.rehearsal = Rehearsal(plan(bytes.fromhex(code), IP, slot, mode="trap", reach=reach))
        self.memory = memory or {}

    def run(self, **changes):
        content = registers_pack(registers(**changes))
        outcome, after = self.rehearsal.emulate(content)
        if outcome == "read":
            vaddr, size = self.rehearsal.read
            outcome, after = self.rehearsal.emulate(content, self.memory[vaddr][:size])
        return outcome, registers_unpack(after)

    @property
    def write(self):
        return self.rehearsal.write


def qword(value):
    return value.to_bytes(8, "little")


@pytest.mark.parametrize(
    ("code", "lands"),
    [("90", IP + 1), ("f3 0f 1e fa", IP + 4), ("eb fe", IP), ("e9 fb fe ff ff", IP - 0x100), ("3e eb 10", IP + 0x13)],
)
def test_only_ip(code, lands):
    rehearsal = Rehearsal(plan(bytes.fromhex(code), IP, mode="trap"))
    assert rehearsal.sets_ip()
    assert rehearsal.emulate_ip() == lands


def test_boost_only_sends_ip_to_the_slot():
    rehearsal = Rehearsal(plan(b"\x55", IP, SLOT, mode="trap"))
    assert rehearsal.sets_ip()
    assert rehearsal.emulate_ip() == SLOT


@pytest.mark.parametrize("condition", range(16))
def test_conditions(condition):
    code = f"{0x70 + condition:02x} 10"
    for flags in (0x001, 0x004, 0x040, 0x080, 0x800, 0x880, 0x000, 0x8C5):
        carry, parity, zero, sign, overflow = (bool(flags & bit) for bit in (1, 4, 0x40, 0x80, 0x800))
        holds = (overflow, carry, zero, carry or zero, sign, parity, sign != overflow, zero or sign != overflow)
        taken = holds[condition // 2] != bool(condition % 2)
        outcome, after = Hit(code).run(eflags=0x202 | flags)
        assert (outcome, after["rip"]) == ("ip", IP + (0x12 if taken else 2))


@pytest.mark.parametrize(
    ("code", "rcx", "flags", "left", "taken"),
    [
        ("e2 10", 2, 0, 1, True),
        ("e2 10", 1, 0, 0, False),
        ("e2 10", 0, 0, (1 << 64) - 1, True),
        ("e1 10", 2, ZF, 1, True),
        ("e1 10", 2, 0, 1, False),
        ("e0 10", 2, ZF, 1, False),
        ("e0 10", 2, 0, 1, True),
        ("e3 10", 0, 0, 0, True),
        ("e3 10", 1 << 32, 0, 1 << 32, False),
        ("67 e3 10", 1 << 32, 0, 1 << 32, True),
        ("67 e2 10", (7 << 32) | 1, 0, 0, False),
        ("67 e2 10", 7 << 32, 0, (1 << 32) - 1, True),
    ],
)
def test_loop_counts_in_rcx_or_ecx(code, rcx, flags, left, taken):
    hit = Hit(code)
    length = len(bytes.fromhex(code))
    _, after = hit.run(rcx=rcx, eflags=0x202 | flags)
    assert (after["rcx"], after["rip"]) == (left, IP + length + (0x10 if taken else 0))


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("53", 0x1000),
        ("41 50", 8),
        ("54", STACK),
        ("6a ff", (1 << 64) - 1),
        ("68 00 00 00 80", 0xFFFF_FFFF_8000_0000),
        ("ff 73 08", 0x77),
        ("ff f3", 0x1000),
        ("9c", 0x202),
    ],
)
def test_push(code, value):
    hit = Hit(code, memory={0x1008: qword(0x77)})
    assert hit.run(r8=8) == ("done", registers(r8=8, rsp=STACK - 8, rip=IP + len(bytes.fromhex(code))))
    assert hit.write == (STACK - 8, qword(value))


@pytest.mark.parametrize(("code", "changes"), [("5b", {"rbx": 9, "rsp": STACK + 8}), ("5c", {"rsp": 9})])
def test_pop(code, changes):
    assert Hit(code, memory={STACK: qword(9)}).run() == ("done", registers(rip=IP + 1, **changes))


def test_call_pushes_the_next_address():
    hit = Hit("e8 00 01 00 00")
    assert hit.run() == ("done", registers(rip=IP + 0x105, rsp=STACK - 8))
    assert hit.write == (STACK - 8, qword(IP + 5))


@pytest.mark.parametrize(("code", "rsp"), [("c3", STACK + 8), ("c2 08 80", STACK + 8 + 0x8008), ("f3 c3", STACK + 8)])
def test_ret(code, rsp):
    assert Hit(code, memory={STACK: qword(0x1234)}).run() == ("done", registers(rip=0x1234, rsp=rsp))


def test_ret_to_no_address_is_left_to_the_processor():
    assert Hit("c3", memory={STACK: qword(1 << 63)}).run()[0] == "faults"


def test_leave():
    after = registers(rip=IP + 1, rsp=0x2008, rbp=0x3000)
    assert Hit("c9", memory={0x2000: qword(0x3000)}).run(rbp=0x2000) == ("done", after)


@pytest.mark.parametrize(
    ("code", "memory", "target"),
    [
        ("ff 23", 0x1000, 0x99),
        ("ff 63 f8", 0xFF8, 0x99),
        ("ff a3 00 01 00 00", 0x1100, 0x99),
        ("ff 24 8b", 0x1010, 0x99),
        ("ff 24 25 00 02 00 00", 0x200, 0x99),
        ("64 ff 24 25 10 00 00 00", 0x5010, 0x99),
        ("41 ff 24 24", 0x3000, 0x99),
        ("ff 25 10 00 00 00", IP + 0x16, 0x99),
        ("67 ff 23", 0x1000, 0x99),
        ("ff e3", None, 0x1000),
    ],
)
def test_indirect_jump_reads_its_operand(code, memory, target):
    hit = Hit(code, memory={memory: qword(target)})
    changes = {"r12": 0x3000, "fs_base": 0x5000}
    assert hit.run(**changes) == ("done", registers(rip=target, **changes))


def test_indirect_call_goes_to_its_slot_when_the_push_cannot_meet_the_operand():
    hit = Hit("ff 13", slot=SLOT, reach="near")
    assert hit.run() == ("ip", registers(rip=SLOT))


@pytest.mark.parametrize("distance", range(-7, 8))
def test_indirect_call_through_what_it_overwrites_is_emulated(distance):
    operand = STACK - 8 + distance
    hit = Hit("ff 13", slot=SLOT, reach="near", memory={operand: qword(0x1234)})
    assert hit.run(rbx=operand) == ("done", registers(rbx=operand, rip=0x1234, rsp=STACK - 8))
    assert hit.write == (STACK - 8, qword(IP + 2))


@pytest.mark.parametrize("distance", [-8, 8])
def test_indirect_call_beside_what_it_overwrites_is_boosted(distance):
    hit = Hit("ff 13", slot=SLOT, reach="near")
    assert hit.run(rbx=STACK - 8 + distance)[0] == "ip"


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("48 89 c8", {"rax": 4}),
        ("48 8b c1", {"rax": 4}),
        ("89 c8", {"rax": 4}),
        ("66 89 c8", {"rax": 0xAAAA_AAAA_AAAA_0004}),
        ("41 89 c8", {"r8": 4}),
        ("b8 ff ff ff ff", {"rax": 0xFFFF_FFFF}),
        ("48 b8 88 77 66 55 44 33 22 11", {"rax": 0x1122_3344_5566_7788}),
        ("48 c7 c0 ff ff ff ff", {"rax": (1 << 64) - 1}),
        ("c7 c0 ff ff ff ff", {"rax": 0xFFFF_FFFF}),
        ("66 b8 34 12", {"rax": 0xAAAA_AAAA_AAAA_1234}),
        ("48 8b 03", {"rax": 0x1122_3344_5566_7788}),
        ("8b 03", {"rax": 0x5566_7788}),
        ("66 8b 03", {"rax": 0xAAAA_AAAA_AAAA_7788}),
        ("48 8d 44 8b 08", {"rax": 0x1018}),
        ("8d 05 10 00 00 00", {"rax": 0x1016}),
        ("66 8d 03", {"rax": 0xAAAA_AAAA_AAAA_1000}),
        ("65 48 8d 03", {"rax": 0x1000}),
    ],
)
def test_moves(code, changes):
    start = {"rax": 0xAAAA_AAAA_AAAA_AAAA, "gs_base": 0x5000}
    hit = Hit(code, memory={0x1000: qword(0x1122_3344_5566_7788)})
    assert hit.run(**start) == ("done", registers(rip=IP + len(bytes.fromhex(code)), **start | changes))


@pytest.mark.parametrize(("code", "size"), [("48 89 0b", 8), ("89 0b", 4), ("66 89 0b", 2)])
def test_store(code, size):
    hit = Hit(code)
    assert hit.run()[0] == "done"
    assert hit.write == (0x1000, (4).to_bytes(size, "little"))


def test_popf_goes_to_its_slot():
    hit = Hit("9d", slot=SLOT, reach="near", memory={STACK: qword(0x8D7)})
    assert hit.run() == ("ip", registers(rip=SLOT))


def test_popf_that_sets_the_trap_flag_is_emulated():
    # From the slot the program's own trap would come one instruction early.
    hit = Hit("9d", slot=SLOT, reach="near", memory={STACK: qword(TF | 0x3000 | 0x1)})
    assert hit.run() == ("done", registers(rip=IP + 1, rsp=STACK + 8, eflags=0x202 & ~0xD5 | TF | 1))


def test_popfw_leaves_the_upper_flags():
    hit = Hit("66 9d", memory={STACK: b"\x01\x00"})
    assert hit.run(eflags=0x40202) == ("done", registers(rip=IP + 2, rsp=STACK + 2, eflags=0x40203))
