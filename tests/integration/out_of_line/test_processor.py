"""The processor as the judge: out of line as in place, for forms drawn at random and for the known hard ones."""

import signal
import struct

import pytest

from uprobes.selftest import SelfTest
from uprobes.selftest.hard import HARD
from uprobes.selftest.judge import AccessError
from uprobes.selftest.registers import register_get, register_set
from uprobes.selftest.sandbox import DATA_VADDR, SITE_IP, STACK_VADDR
from uprobes.selftest.state import IMAGE_SIZE, LANDING_IP, NO_SYSCALL

STACK_TOP = STACK_VADDR + IMAGE_SIZE // 2
DATA_MIDDLE = DATA_VADDR + IMAGE_SIZE // 2
USER_CS, USER_SS = 0x33, 0x2B
AC, DF, TF = 0x4_0000, 0x400, 0x100
GETPID, GETPID_32 = 39, 20


def rip(code, end):
    """The bytes with a displacement that leads from the end of the instruction, `end` bytes long, to the data."""
    return bytes.fromhex(code.replace("rip", struct.pack("<i", DATA_MIDDLE - SITE_IP - end).hex()))


def change(state, *, stack=None, data=None, **registers):
    """The state with other registers, or other bytes from the stack pointer or the middle of the data on."""
    content, images = state.registers, {"stack": state.stack, "data": state.data}
    for name, value in registers.items():
        content = register_set(content, name, value)
    for name, new in (("stack", stack), ("data", data)):
        if new is not None:
            middle = IMAGE_SIZE // 2
            images[name] = images[name][:middle] + new + images[name][middle + len(new) :]
    return type(state)(content, state.xstate, images["data"], images["stack"])


def check(judge, code, state):
    """Every way to run it ends as the native run, from the slot's middle as well. Returns the native result."""
    native = judge.native(code, state)
    ran = 0
    for variant, made in judge.plans(code):
        if made.refusal or made.kind_name == "step in place":
            continue
        ran += 1
        try:
            assert judge.out_of_line(code, state, variant).differences(native) == [], (variant, made)
        except AccessError:
            assert native.signal, (variant, made)
        for boundary in judge.boundaries(code, state, variant) if not native.signal else ():
            assert judge.interrupted(code, state, variant, boundary).differences(native) == [], (variant, boundary)
    assert ran, "no way to run it"
    return native


@pytest.mark.parametrize("seed", range(4))
def test_random_forms(seed):
    report = SelfTest(1000, seed).run()
    assert report.failures == []
    assert report.forms == 1000
    assert sum(report.runs.values()) > 4000
    assert report.interruptions > 800


@pytest.mark.parametrize("name", HARD)
def test_what_others_get_wrong(judge, states, name):
    form = HARD[name]
    for _ in range(3):
        check(judge, form.code, states.make(control=form.control))


@pytest.mark.parametrize(
    ("code", "number"),
    [("0f 05", GETPID), ("66 0f 05", GETPID), ("48 0f 05", GETPID), ("cd 80", GETPID_32), ("0f 05", NO_SYSCALL)],
)
def test_system_call(judge, states, code, number):
    native = check(judge, bytes.fromhex(code), change(states.make(), rax=number))
    assert native.signal == 0


def test_system_call_leaves_the_original_next_ip_in_rcx(judge, states):
    native = check(judge, bytes.fromhex("0f 05"), states.make())
    assert register_get(native.registers, "rcx") == SITE_IP + 2


@pytest.mark.parametrize("code", ["f3 a4", "f3 48 a5", "f3 aa", "f3 a6", "f2 ae", "f3 6e", "67 f3 a4"])
@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("flags", [0, DF])
def test_repeated_strings(judge, states, code, count, flags):
    state = states.make()
    eflags = register_get(state.registers, "eflags") & ~DF | flags
    check(judge, bytes.fromhex(code), change(state, rcx=count, eflags=eflags))


def frame(*words):
    return struct.pack(f"<{len(words)}Q", *words)


@pytest.mark.parametrize(
    ("code", "stack"),
    [
        ("48 cb", frame(LANDING_IP, USER_CS)),
        ("48 ca 08 00", frame(LANDING_IP, USER_CS)),
        ("48 cf", frame(LANDING_IP, USER_CS, 0x246, STACK_TOP + 64, USER_SS)),
        ("48 cf", frame(LANDING_IP, USER_CS, 0x246, STACK_TOP + 64, 0)),
    ],
)
def test_far_returns(judge, states, code, stack):
    native = check(judge, bytes.fromhex(code), change(states.make(), stack=stack))
    assert (native.signal == 0) == (struct.unpack_from("<Q", stack, len(stack) - 8)[0] != 0)


def test_move_to_ss(judge, states):
    native = check(judge, bytes.fromhex("8e d1"), change(states.make(), rcx=USER_SS))
    assert native.signal == 0


@pytest.mark.parametrize("image", [0x202, 0x8D7, 0x202 | AC, 0x202 | DF])
@pytest.mark.parametrize("code", ["9d", "66 9d"])
def test_popf(judge, states, code, image):
    check(judge, bytes.fromhex(code), change(states.make(), stack=frame(image)))


def test_popf_that_sets_the_trap_flag(judge, states):
    # The program's own trap comes after the instruction behind popf: here the int3 where it lands.
    check(judge, bytes.fromhex("9d"), change(states.make(), stack=frame(0x202 | TF)))


@pytest.mark.parametrize("code", ["e8 10 00 00 00", "75 10", "e9 10 00 00 00", "e2 10", "55", "90", "9c"])
def test_alignment_checks_do_not_reach_our_code(judge, states, code):
    native = check(judge, bytes.fromhex(code), change(states.make(), eflags=0x202 | AC))
    assert native.signal == 0


@pytest.mark.parametrize("distance", [-16, -12, -8, -4, 0])
@pytest.mark.parametrize("code", ["ff 13", "41 ff 14 24", "ff 53 08"])
def test_call_through_the_red_zone(judge, states, code, distance):
    operand = STACK_TOP + distance
    state = change(states.make(control=True), rbx=operand, r12=operand)
    check(judge, bytes.fromhex(code), state)


@pytest.mark.parametrize(
    "code", ["ff 14 24", "ff 54 24 f8", "ff 54 24 f0", "ff 54 24 7f", "ff 14 cc", "ff d4", "ff e4"]
)
def test_calls_and_jumps_by_the_stack_pointer(judge, states, code):
    check(judge, bytes.fromhex(code), states.make(control=True))


@pytest.mark.parametrize(
    "code", ["ff 34 24", "8f 04 24", "54", "5c", "8f 44 24 08", "ff 74 24 f8", "c9", "c8 20 00 02"]
)
def test_pushes_and_pops_by_the_stack_pointer(judge, states, code):
    check(judge, bytes.fromhex(code), states.make())


@pytest.mark.parametrize(
    "code",
    [
        "66 66 48 e8 10 00 00 00",
        "66 48 e9 10 00 00 00",
        "66 48 0f 85 10 00 00 00",
        "66 48 75 10",
        "66 48 eb 10",
        "66 48 e2 10",
        "66 48 ff d3",
        "66 48 ff e3",
        "66 48 ff 14 24",
        "66 48 c3",
        "66 48 c2 08 00",
    ],
)
def test_rex_w_takes_the_operand_size_prefix_back(judge, states, code):
    native = check(judge, bytes.fromhex(code), states.make(control=True))
    assert native.signal == 0


NOWHERE = 0x10


@pytest.mark.parametrize(
    ("code", "number", "registers"),
    [
        ("48 8b 03", signal.SIGSEGV, {"rbx": NOWHERE}),
        ("48 89 03", signal.SIGSEGV, {"rbx": NOWHERE}),
        ("ff 23", signal.SIGSEGV, {"rbx": NOWHERE}),
        ("ff 13", signal.SIGSEGV, {"rbx": NOWHERE}),
        ("48 8b 03", signal.SIGSEGV, {"rbx": 1 << 63}),
        ("48 8b 45 00", signal.SIGBUS, {"rbp": 1 << 63}),
        ("48 f7 f1", signal.SIGFPE, {"rcx": 0}),
        ("0f 29 43 01", signal.SIGSEGV, {"rbx": DATA_MIDDLE}),
        ("f3 a4", signal.SIGSEGV, {"rdi": NOWHERE}),
        ("8b 03", signal.SIGBUS, {"rbx": DATA_MIDDLE + 1, "eflags": 0x202 | AC}),
        ("fa", signal.SIGSEGV, {}),
        ("e4 11", signal.SIGSEGV, {}),
        ("ff e3", signal.SIGSEGV, {"rbx": 1 << 63}),
    ],
)
def test_faults_are_seen_at_the_original_address(judge, states, code, number, registers):
    native = check(judge, bytes.fromhex(code), change(states.make(), **registers))
    assert native.signal == number
    assert register_get(native.registers, "rip") == SITE_IP


@pytest.mark.parametrize(
    "code",
    [
        rip("48 8b 05 rip", 7),
        rip("48 8b 35 rip", 7),  # the first scratch is taken
        rip("8a 25 rip", 6),  # AH
        rip("49 8b 05 rip", 7),  # REX.B
        rip("48 0f c7 0d rip", 8),  # cmpxchg16b: rax, rbx, rcx, rdx
        rip("48 f7 35 rip", 7),  # div: rax, rdx
        rip("c4 e2 c0 f2 35 rip", 9),  # andn rsi, rdi, m
        rip("c4 e2 c3 f6 35 rip", 9),  # mulx
        rip("66 0f 38 10 05 rip", 9),  # pblendvb: xmm0
        rip("66 0f 3a 61 05 rip 0c", 10),  # pcmpestri: rax, rdx, rcx
        rip("0f ae 05 rip", 7),  # fxsave
        rip("48 d3 05 rip", 7),  # rol by cl
        rip("48 c7 05 rip 01 02 03 04", 11),
        rip("ff 35 rip", 6),
        rip("8f 05 rip", 6),
        rip("62 f2 7d 49 58 05 rip", 10),  # vpbroadcastd with a mask
        rip("48 0f ae 25 rip", 8),  # xsave64
        rip("48 8d 05 rip", 7),
        rip("67 8d 05 rip", 7),
        rip("67 48 8b 05 rip", 8),
    ],
    ids=bytes.hex,
)
def test_rip_relative_by_every_strategy(judge, states, code):
    strategies = {made.strategy for _, made in judge.plans(code) if not made.refusal}
    assert {"scratch", "displacement"} <= strategies
    check(judge, code, states.make())


@pytest.mark.parametrize("code", [rip("ff 15 rip", 6), rip("ff 25 rip", 6)], ids=bytes.hex)
def test_branches_through_rip_relative_pointers(judge, states, code):
    native = check(judge, code, states.make(control=True))
    assert register_get(native.registers, "rip") == LANDING_IP
