"""What a plan says and what its slot holds, for one instruction of each kind."""

import iced_x86
import pytest

from uprobe_core.x86.relocate import kind_name, plan
from uprobes.refusal import Refusal

IP = 0x7F00_0000_1000
NEAR = IP + 0x10_0000
BELOW = IP - 0x10_0000
FAR = 0x1000_0000_0000
FORMATTER = iced_x86.Formatter(iced_x86.FormatterSyntax.INTEL)
FORMATTER.space_after_operand_separator = True
FORMATTER.hex_prefix = "0x"
FORMATTER.hex_suffix = ""
FORMATTER.uppercase_hex = False
FORMATTER.branch_leading_zeros = False


def listing(made):
    """The slot's code, without the addresses of far jumps at its end."""
    decoder = iced_x86.Decoder(64, made.slot, ip=made.slot_ip)
    lines, size = [], len(made.slot)
    while decoder.position < size:
        instruction = decoder.decode()
        offset = instruction.ip_rel_memory_address - made.slot_ip
        if instruction.is_ip_rel_memory_operand and 0 <= offset < len(made.slot):
            size = min(size, offset)
            target = int.from_bytes(made.slot[offset : offset + 8], "little")
            lines.append(f"jmp [{target:#x}]")
        elif instruction.code != iced_x86.Code.INT3:
            lines.append(FORMATTER.format(instruction))
    return lines


def planned(code, slot_ip=NEAR, **options):
    return plan(bytes.fromhex(code), IP, slot_ip, **options)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("55", ["push rbp", "jmp 0x7f0000001001"]),
        ("f3 a4", ["rep movsb [rdi], [rsi]", "jmp 0x7f0000001002"]),
        ("f0 48 0f c1 0b", ["lock xadd [rbx], rcx", "jmp 0x7f0000001005"]),
        ("41 90", ["xchg r8d, eax", "jmp 0x7f0000001002"]),
        ("9c", ["pushfq", "jmp 0x7f0000001001"]),
        ("cd 80", ["int 0x80", "jmp 0x7f0000001002"]),
        ("8e d1", ["mov ss, cx", "jmp 0x7f0000001002"]),
        # nothing falls through
        ("c3", ["ret"]),
        ("c2 08 00", ["ret 8"]),
        ("ff e0", ["jmp rax"]),
        ("ff 60 08", ["jmp qword ptr [rax+8]"]),
        ("48 cf", ["iretq"]),
        # the return address is the original one
        ("e8 10 00 00 00", ["push 0x1005", "mov dword ptr [rsp+4], 0x7f00", "jmp 0x7f0000001015"]),
        ("66 66 48 e8 10 00 00 00", ["push 0x1008", "mov dword ptr [rsp+4], 0x7f00", "jmp 0x7f0000001018"]),
        ("ff d0", ["push 0x1002", "mov dword ptr [rsp+4], 0x7f00", "jmp rax"]),
        ("41 ff d7", ["push 0x1003", "mov dword ptr [rsp+4], 0x7f00", "jmp r15"]),
        ("ff 15 10 00 00 00", ["push 0x1006", "mov dword ptr [rsp+4], 0x7f00", "jmp qword ptr [0x7f0000001016]"]),
        # relative branches: over the first jump when taken
        ("75 10", ["jne short 0x7f0000101007", "jmp 0x7f0000001002", "jmp 0x7f0000001012"]),
        ("0f 85 10 00 00 00", ["jne short 0x7f0000101007", "jmp 0x7f0000001006", "jmp 0x7f0000001016"]),
        ("3e 75 10", ["jne short 0x7f0000101007", "jmp 0x7f0000001003", "jmp 0x7f0000001013"]),
        ("e2 10", ["loop 0x7f0000101007", "jmp 0x7f0000001002", "jmp 0x7f0000001012"]),
        ("67 e3 10", ["jecxz 0x7f0000101008", "jmp 0x7f0000001003", "jmp 0x7f0000001013"]),
        # system calls: rcx is the original's
        ("0f 05", ["syscall", "mov rcx, 0x7f0000001002", "jmp 0x7f0000001002"]),
        ("66 48 0f 05", ["syscall", "mov rcx, 0x7f0000001004", "jmp 0x7f0000001004"]),
        # RIP-relative operands move by the displacement; lea is a constant
        ("48 8b 05 10 00 00 00", ["mov rax, [0x7f0000001017]", "jmp 0x7f0000001007"]),
        ("48 66 8b 05 10 00 00 00", ["mov ax, [0x7f0000001018]", "jmp 0x7f0000001008"]),
        ("f2 48 0f 44 0d 10 00 00 00", ["cmove rcx, [0x7f0000001019]", "jmp 0x7f0000001009"]),
        ("c5 f9 6f 05 10 00 00 00", ["vmovdqa xmm0, [0x7f0000001018]", "jmp 0x7f0000001008"]),
        ("62 f1 fd 48 6f 05 10 00 00 00", ["vmovdqa64 zmm0, [0x7f000000101a]", "jmp 0x7f000000100a"]),
        ("c7 05 10 00 00 00 01 02 03 04", ["mov dword ptr [0x7f000000101a], 0x4030201", "jmp 0x7f000000100a"]),
        ("48 8d 3d 10 00 00 00", ["mov rdi, 0x7f0000001017", "jmp 0x7f0000001007"]),
        ("44 8d 05 10 00 00 00", ["mov r8d, 0x1017", "jmp 0x7f0000001007"]),
        ("66 8d 05 10 00 00 00", ["mov ax, 0x1017", "jmp 0x7f0000001007"]),
        ("67 48 8d 05 10 00 00 00", ["mov rax, 0x1018", "jmp 0x7f0000001008"]),
    ],
)
def test_boost(code, expected):
    made = planned(code, mode="trap")
    assert made.kind_name == "boost"
    assert listing(made) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("55", ["push rbp", "jmp [0x7f0000001001]"]),
        ("75 10", ["jne short 0x100000000008", "jmp [0x7f0000001002]", "jmp [0x7f0000001012]"]),
        ("67 e0 10", ["addr32 loopne 0x100000000009", "jmp [0x7f0000001003]", "jmp [0x7f0000001013]"]),
        ("e8 10 00 00 00", ["push 0x1005", "mov dword ptr [rsp+4], 0x7f00", "jmp [0x7f0000001015]"]),
        ("48 8d 3d 10 00 00 00", ["mov rdi, 0x7f0000001017", "jmp [0x7f0000001007]"]),
    ],
)
def test_boost_far_away(code, expected):
    made = planned(code, FAR, mode="trap", reach="any")
    assert made.kind_name == "boost"
    assert listing(made) == expected


def test_far_jumps_read_aligned_addresses():
    # With EFLAGS.AC set an unaligned read faults.
    for length in range(1, 16):
        made = planned("2e" * (length - 1) + "55", FAR, mode="trap")
        assert made.slot[24:] == (IP + length).to_bytes(8, "little")


@pytest.mark.parametrize(("prefix", "kept"), [("f3", "f3"), ("f2", "f2"), ("f3 f2", "f2"), ("f2 f3", "f3"), ("2e", "")])
def test_loop_keeps_the_prefix_that_chooses_its_condition(prefix, kept):
    # On AMD processors f3 e0 is loope and f2 e1 is loopne.
    made = planned(f"{prefix} e0 10", mode="trap")
    assert made.slot.startswith(bytes.fromhex(kept + "e0"))


def test_return_address_below_2_gib_is_one_push():
    made = plan(bytes.fromhex("e8 10 00 00 00"), 0x40_1000, 0x50_1000, mode="trap")
    assert listing(made) == ["push 0x401005", "jmp 0x401015"]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ff 50 08", "jmp qword ptr [rax+8]"),
        ("ff 14 24", "jmp qword ptr [rsp+8]"),
        ("ff 54 24 f0", "jmp qword ptr [rsp-8]"),
        ("ff 54 24 7f", "jmp qword ptr [rsp+0x87]"),
        ("ff 94 24 00 01 00 00", "jmp qword ptr [rsp+0x108]"),
        ("ff 14 cc", "jmp qword ptr [rsp+rcx*8+8]"),
        ("41 ff 14 24", "jmp qword ptr [r12]"),
        ("64 ff 14 25 10 00 00 00", "jmp qword ptr fs:[0x10]"),
        ("67 ff 10", "jmp qword ptr [eax]"),
    ],
)
def test_call_through_memory_adjusts_the_operand_to_the_push(code, expected):
    made = planned(code, mode="trap")
    assert made.kind_name == "emulate: indirect call"
    assert listing(made)[2] == expected


@pytest.mark.parametrize(
    ("code", "kind", "slot"),
    [
        ("90", "emulate: skip", ["jmp 0x7f0000001001"]),
        ("f3 90", "emulate: skip", ["jmp 0x7f0000001002"]),
        ("66 0f 1f 84 00 00 00 00 00", "emulate: skip", ["jmp 0x7f0000001009"]),
        ("f3 0f 1e fa", "emulate: skip", ["jmp 0x7f0000001004"]),
        ("eb 10", "emulate: jmp", ["jmp 0x7f0000001012"]),
        ("e9 10 00 00 00", "emulate: jmp", ["jmp 0x7f0000001015"]),
    ],
)
def test_only_ip_changes_and_no_slot_is_needed(code, kind, slot):
    made = planned(code, mode="trap")
    assert (made.kind_name, made.place) == (kind, "none")
    assert listing(made) == slot


@pytest.mark.parametrize("code", ["41 90", "f3 41 90", "49 90"])
def test_nop_with_rex_b_is_an_exchange(code):
    assert planned(code).kind_name == "boost"


def test_rdssp_is_no_nop():
    assert planned("f3 48 0f 1e c8").kind_name == "boost"


@pytest.mark.parametrize(
    ("code", "kind", "slot"),
    [
        ("55", "step: fix ip", ["push rbp", "nop"]),
        ("75 10", "step: fix ip", ["jne short 0x7f0000101003", "nop"]),
        ("e9 10 00 00 00", "step: fix ip", ["jmp 0x7f0000101006", "nop"]),
        ("67 e2 10", "step: fix ip", ["addr32 loop 0x7f0000101004", "nop"]),
        ("e8 10 00 00 00", "step: fix ip, fix return address", ["call 0x7f0000101006", "nop"]),
        ("ff d0", "step: fix return address", ["call rax", "nop"]),
        ("c3", "step: nothing to fix", ["ret", "nop"]),
        ("9c", "step: fix ip, hide trap flag", ["pushfq", "nop"]),
        ("f3 a4", "step: fix ip, repeat", ["rep movsb [rdi], [rsi]", "nop"]),
        ("0f 05", "step: fix ip, fix system call", ["syscall", "nop"]),
        ("cd 80", "step: fix ip, fix system call", ["int 0x80", "nop"]),
        ("48 cf", "step: nothing to fix", ["iretq", "nop"]),
    ],
)
def test_step(code, kind, slot):
    made = planned(code, mode="step")
    assert made.kind_name == kind
    assert listing(made) == slot


@pytest.mark.parametrize(
    ("code", "scratch", "copy"),
    [
        ("48 8b 05 10 00 00 00", "rsi", "mov rax, [rsi+0x10]"),
        ("48 8b 35 10 00 00 00", "rdi", "mov rsi, [rdi+0x10]"),
        ("49 8b 05 10 00 00 00", "rsi", "mov rax, [rsi+0x10]"),  # REX.B means nothing to [rip+disp32]
        ("8a 25 10 00 00 00", "rsi", "mov ah, [rsi+0x10]"),
        ("c4 c2 48 f2 3d 10 00 00 00", "rbp", "andn edi, esi, [rbp+0x10]"),  # VEX.B likewise; vvvv is esi
        ("62 d1 fd 48 6f 05 10 00 00 00", "rsi", "vmovdqa64 zmm0, [rsi+0x10]"),
        ("f0 48 0f c7 0d 10 00 00 00", "rsi", "lock cmpxchg16b [rsi+0x10]"),
        ("48 8d 35 10 00 00 00", "rdi", "lea rsi, [rdi+0x10]"),
        ("ff 35 10 00 00 00", "rdi", "push qword ptr [rdi+0x10]"),
    ],
)
def test_scratch_register_is_one_that_the_instruction_does_not_touch(code, scratch, copy):
    made = planned(code, FAR, mode="step", rip="scratch")
    assert (made.strategy, made.scratch, made.place) == ("scratch", scratch, "any")
    assert made.kind_name.endswith(f"restore scratch {scratch}")
    assert listing(made)[0] == copy


def test_segment_strategy_adds_a_prefix_and_keeps_the_operand():
    made = planned("48 8b 05 10 00 00 00", BELOW, mode="step", rip="segment")
    assert (made.kind_name, made.strategy, made.place) == ("step: fix ip, restore gs base", "segment", "below")
    assert made.slot[: made.copy_length] == bytes.fromhex("65 48 8b 05 10 00 00 00")


def test_segment_strategy_needs_a_slot_below_the_site():
    with pytest.raises(ValueError, match="must be below"):
        planned("48 8b 05 10 00 00 00", NEAR, mode="step", rip="segment")


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("48 8d 05 10 00 00 00", "lea ignores segments"),
        ("64 48 8b 05 10 00 00 00", "has a segment of its own"),
        ("65 48 8b 05 10 00 00 00", "has a segment of its own"),
        ("67 48 8b 05 10 00 00 00", "the base is added after the address wraps"),
        ("8e 2d 10 00 00 00", "mov gs loads the base"),
        ("0f 01 25 10 00 00 00", "smsw is emulated by the kernel"),
    ],
)
def test_segment_strategy_refused(code, why):
    made = planned(code, None, mode="step", rip="segment")
    assert made.refusal == Refusal.STRATEGY, why
    assert made.kind_name == "refused"


def test_segment_strategy_on_fifteen_bytes_is_too_long():
    code = "2e" * 8 + "48 8b 05 10 00 00 00"
    assert planned(code, None, mode="step", rip="segment").refusal == Refusal.TOO_LONG


@pytest.mark.parametrize("rip", ["scratch", "segment"])
def test_trap_restores_no_register(rip):
    assert planned("48 8b 05 10 00 00 00", None, mode="trap", rip=rip).refusal == Refusal.STRATEGY


def test_strategy_matters_to_rip_relative_operands_only():
    made = planned("55", mode="trap", rip="scratch")
    assert (made.refusal, made.strategy) == (Refusal.NONE, "none")


def test_eip_relative_operand_is_in_reach_from_anywhere():
    made = planned("67 8b 05 10 00 00 00", FAR, mode="trap", reach="any")
    assert made.place == "any"
    decoded = iced_x86.Decoder(64, made.slot, ip=FAR).decode()
    assert decoded.ip_rel_memory_address == (IP + 7 + 0x10) & 0xFFFF_FFFF


def test_near_slot_must_be_near():
    with pytest.raises(ValueError, match="out of reach; it must be near"):
        planned("48 8b 05 10 00 00 00", FAR)


def test_auto_takes_the_step_where_one_stop_cannot_do():
    made = planned("48 03 05 10 00 00 00", FAR, reach="any")
    assert made.kind_name == "step: fix ip, restore scratch rsi"


@pytest.mark.parametrize("code", ["48 8b 05 10 00 00 00", "ff 25 10 00 00 00", "ff 15 10 00 00 00"])
def test_operand_out_of_reach_needs_two_stops(code):
    assert planned(code, None, mode="trap", reach="any").refusal == Refusal.NO_ROOM
    assert "restore scratch" in planned(code, FAR, reach="any").kind_name


def test_call_of_the_stack_pointer_needs_two_stops():
    assert planned("ff d4", None, mode="trap").refusal == Refusal.MODE
    assert planned("ff d4").kind_name == "step: fix return address"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("55", "emulate: push"),
        ("5d", "emulate: pop"),
        ("c3", "emulate: ret"),
        ("c9", "emulate: leave"),
        ("9c", "emulate: pushf"),
        ("9d", "emulate: popf"),
        ("e8 10 00 00 00", "emulate: call"),
        ("75 10", "emulate: jcc"),
        ("e2 10", "emulate: loop"),
        ("48 89 e5", "emulate: mov"),
        ("b8 01 00 00 00", "emulate: mov"),
        ("48 8d 44 24 08", "emulate: lea"),
        ("48 01 c8", "step in place"),
    ],
)
def test_without_any_slot(code, kind):
    made = planned(code, None, reach="none")
    assert (made.kind_name, made.place, made.slot) == (kind, "none", b"")


@pytest.mark.parametrize(
    ("code", "refusal"),
    [
        ("0f 05", Refusal.NO_ROOM),
        ("f3 e0 10", Refusal.NONE),
    ],
)
def test_without_any_slot_system_calls_are_refused(code, refusal):
    assert planned(code, None, reach="none").refusal == refusal


@pytest.mark.parametrize(
    ("code", "refusal"),
    [
        ("cc", Refusal.TRAPS_ITSELF),
        ("cd 03", Refusal.TRAPS_ITSELF),
        ("f1", Refusal.TRAPS_ITSELF),
        ("0f 0b", Refusal.ALWAYS_FAULTS),
        ("f4", Refusal.ALWAYS_FAULTS),
        ("66 e8 10 00", Refusal.VENDOR),
        ("66 75 10", Refusal.VENDOR),
        ("66 c3", Refusal.VENDOR),
        ("66 ff e0", Refusal.VENDOR),
        ("ff 18", Refusal.FAR_TRANSFER),
        ("c7 f8 10 00 00 00", Refusal.TRANSACTION),
        ("c6 f8 10", Refusal.TRANSACTION),
        ("0f 01 d5", Refusal.TRANSACTION),
    ],
)
@pytest.mark.parametrize("mode", ["auto", "trap", "step"])
def test_refused_in_every_mode(code, refusal, mode):
    try:
        made = planned(code, None, mode=mode)
    except ValueError:
        pytest.skip("no instruction of this processor")
    assert made.refusal == refusal


def test_jump_is_planned_elsewhere():
    assert planned("55", None, mode="jump").refusal == Refusal.MODE


def test_bytes_that_are_no_instruction():
    with pytest.raises(ValueError, match="no instruction in 06"):
        planned("06")


def test_the_plan_keeps_what_it_was_made_from():
    made = planned("55 48 89 e5")
    assert (made.ip, made.original, made.slot_ip) == (IP, b"\x55", NEAR)
    assert repr(made) == "<Plan 55: boost>"


def test_kind_in_words():
    assert kind_name(0x80) == "boost"
    assert kind_name(0) == "step: nothing to fix"
    assert kind_name(0x7F, "rsi") == (
        "step: fix ip, fix return address, restore scratch rsi, restore gs base, hide trap flag, repeat, "
        "fix system call"
    )


SHADOW_STACK = Refusal.SHADOW_STACK


@pytest.mark.parametrize("mode", ["auto", "trap", "step"])
@pytest.mark.parametrize(
    ("code", "reach", "refused"),
    [
        ("e8 10 00 00 00", "near", True),
        ("ff d0", "near", True),
        ("ff 15 10 00 00 00", "near", True),
        ("ff 14 24", "near", True),
        ("c3", "near", False),  # the copy returns by itself
        ("eb 10", "near", False),
        ("55", "near", False),
        ("f3 0f 1e fa", "near", False),
        ("48 cf", "near", False),
    ],
)
def test_calls_are_refused_where_the_processor_checks_returns(mode, code, reach, refused):
    made = plan(bytes.fromhex(code), IP, mode=mode, reach=reach, shadow_stack=True)
    assert (made.refusal == SHADOW_STACK) == refused
    assert plan(bytes.fromhex(code), IP, mode=mode, reach=reach).refusal == Refusal.NONE


def test_a_return_without_a_slot_is_emulated_only_where_nobody_checks():
    assert plan(b"\xc3", IP, mode="trap", reach="none").kind_name == "emulate: ret"
    assert plan(b"\xc3", IP, mode="trap", reach="none", shadow_stack=True).refusal == SHADOW_STACK
    # Stepped in place, a call and a return are the program's own.
    for code in (b"\xc3", b"\xe8\x10\0\0\0"):
        assert plan(code, IP, mode="step", reach="none", shadow_stack=True).refusal == Refusal.NONE
