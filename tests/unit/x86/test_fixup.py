"""Registers before and after a step, by the plan byte alone."""

import pytest

from uprobe_core.x86.rehearsal import Rehearsal
from uprobe_core.x86.relocate import plan
from uprobes.selftest.registers import REGISTERS, registers_pack, registers_unpack

IP = 0x7F00_0000_1000
SLOT = 0x1000_0000_0000
STACK = 0x7FFF_0000_0000
TF = 0x100
RESTART = (1 << 64) - 512  # -ERESTARTSYS in rax
DATA = "48 8b 05 10 00 00 00"


def registers(**changes):
    values = dict.fromkeys(REGISTERS, 0) | {"rsi": 0x51, "rdi": 0xD1, "rsp": STACK, "eflags": 0x246}
    values |= {"gs_base": 0x65, "orig_rax": (1 << 64) - 1, "rip": IP}
    return values | changes


class Step:
    """A rehearsed hit whose registers are dicts."""

    def __init__(self, code, slot=SLOT, **options):
        self.plan = plan(bytes.fromhex(code), IP, slot, **{"mode": "step", "reach": "any"} | options)
        self.rehearsal = Rehearsal(self.plan)
        self.before = registers()

    def begin(self, **changes):
        self.before = registers(**changes)
        return registers_unpack(self.rehearsal.begin(registers_pack(self.before)))

    def finish(self, begun, **changes):
        outcome, after = self.rehearsal.finish(registers_pack(begun | changes))
        return outcome, registers_unpack(after)

    def abort(self, begun, **changes):
        return registers_unpack(self.rehearsal.abort(registers_pack(begun | changes)))

    @property
    def end(self):
        return SLOT + self.plan.copy_length

    @property
    def next(self):
        return IP + len(self.plan.original)


def test_ip_goes_to_the_slot_and_back():
    step = Step("55")
    begun = step.begin()
    assert begun == registers(rip=SLOT)
    assert step.finish(begun, rip=step.end) == ("done", registers(rip=step.next))


def test_late_trap_after_the_nop():
    # mov ss holds the trap off; so does the kernel where it emulates the instruction.
    step = Step("8e d1")
    assert step.finish(step.begin(), rip=step.end + 1) == ("done", registers(rip=step.next))


@pytest.mark.parametrize("where", [SLOT, SLOT + 3, SLOT - 1, 0])
def test_ip_that_the_copy_cannot_lead_to(where):
    step = Step("55")
    outcome, _ = step.finish(step.begin(), rip=where)
    assert outcome == "failed"


def test_scratch_register_holds_the_next_ip_during_the_step():
    step = Step(DATA, rip="scratch")
    begun = step.begin()
    assert begun == registers(rip=SLOT, rsi=IP + 7)
    assert step.finish(begun, rip=step.end, rax=5) == ("done", registers(rip=step.next, rax=5))


def test_scratch_register_comes_back_even_after_a_scrambled_slot():
    step = Step(DATA, rip="scratch")
    outcome, after = step.finish(step.begin(), rip=0)
    assert (outcome, after["rsi"]) == ("failed", 0x51)


def test_segment_base_is_the_distance_between_the_ends():
    step = Step(DATA, rip="segment")
    begun = step.begin()
    assert begun == registers(rip=SLOT, gs_base=step.next - step.end)
    assert step.finish(begun, rip=step.end) == ("done", registers(rip=step.next))


@pytest.mark.parametrize(("passed", "lands"), [(0, IP + 2), (1, IP + 2 - 0x10)])
def test_conditional_branch_taken_or_not(passed, lands):
    step = Step("75 f0")
    assert step.finish(step.begin(), rip=step.end + passed) == ("done", registers(rip=lands))


def test_direct_jump_is_always_taken():
    step = Step("e9 00 ff ff ff")
    assert step.finish(step.begin(), rip=step.end + 1) == ("done", registers(rip=IP + 5 - 0x100))
    assert step.finish(step.begin(), rip=step.end)[0] == "failed"


def test_direct_call_pushes_the_original_return_address():
    step = Step("e8 00 01 00 00")
    outcome, after = step.finish(step.begin(), rip=step.end + 1, rsp=STACK - 8)
    assert (outcome, after) == ("done", registers(rip=IP + 5 + 0x100, rsp=STACK - 8))
    assert step.rehearsal.write == (STACK - 8, step.next.to_bytes(8, "little"))


def test_indirect_call_keeps_where_it_went():
    step = Step("ff d0")
    outcome, after = step.finish(step.begin(), rip=0x1234, rsp=STACK - 8)
    assert (outcome, after["rip"]) == ("done", 0x1234)
    assert step.rehearsal.write == (STACK - 8, step.next.to_bytes(8, "little"))


def test_branch_into_the_slot_is_a_scrambled_one():
    step = Step("c3")
    assert step.finish(step.begin(), rip=0x1234)[0] == "done"
    assert step.finish(step.begin(), rip=SLOT + 1)[0] == "failed"


@pytest.mark.parametrize(("flags", "image"), [(0x246, 0x02), (0x246 | TF, 0x03)])
def test_pushed_flags_show_the_programs_own_trap_flag_only(flags, image):
    step = Step("9c")
    begun = step.begin(eflags=flags)
    assert step.finish(begun, rip=step.end, rsp=STACK - 8)[0] == "done"
    assert step.rehearsal.write == (STACK - 8 + 1, bytes([image]))


def test_rep_is_stepped_again_until_ip_moves():
    step = Step("f3 a4")
    begun = step.begin(rcx=2)
    assert step.finish(begun, rcx=1) == ("again", registers(rip=SLOT, rcx=1))
    assert step.finish(begun, rcx=0, rip=step.end) == ("done", registers(rip=step.next))


@pytest.mark.parametrize("late", [0, 1])
def test_system_call_leaves_the_original_ip_in_rcx_and_no_trap_flag_in_r11(late):
    step = Step("0f 05")
    begun = step.begin(rax=39)
    outcome, after = step.finish(begun, rip=step.end + late, rax=7, rcx=step.end, r11=0x246 | TF)
    assert outcome == "done"
    assert after == registers(rip=step.next, rax=7, rcx=step.next, r11=0x246)


def test_int_80_leaves_rcx_and_r11_alone():
    step = Step("cd 80")
    outcome, after = step.finish(step.begin(), rip=step.end, rcx=3, r11=4)
    assert (outcome, after) == ("done", registers(rip=step.next, rcx=3, r11=4))


@pytest.mark.parametrize("error", [512, 513, 514, 516])
def test_interrupted_system_call_is_not_finished(error):
    step = Step("0f 05")
    outcome, _ = step.finish(step.begin(), rip=step.end, rax=(1 << 64) - error, orig_rax=0)
    assert outcome == "again"


def test_the_same_number_outside_a_system_call_is_a_result():
    step = Step("0f 05")
    outcome, _ = step.finish(step.begin(), rip=step.end, rax=RESTART)
    assert outcome == "done"


def test_sigreturn_went_elsewhere_with_every_register():
    step = Step("0f 05")
    assert step.finish(step.begin(), rip=0x1234, rcx=1, r11=2 | TF) == (
        "done",
        registers(rip=0x1234, rcx=1, r11=2 | TF),
    )


@pytest.mark.parametrize(
    ("code", "rip"), [("55", "auto"), (DATA, "scratch"), (DATA, "segment"), ("f3 a4", "auto"), ("0f 05", "auto")]
)
def test_abort_puts_everything_back(code, rip):
    step = Step(code, rip=rip)
    assert step.abort(step.begin()) == registers()


def test_abort_hides_the_trap_flag_that_the_kernel_shows_before_iret():
    step = Step("48 cf")
    begun = step.begin()
    assert step.abort(begun, eflags=begun["eflags"] | TF) == registers()


def test_abort_of_a_system_call_that_will_be_restarted_stands_behind_the_site():
    step = Step("0f 05")
    begun = step.begin()
    after = step.abort(begun, rip=step.end, rax=RESTART, orig_rax=0, rcx=step.end, r11=0x246 | TF)
    assert after == registers(rip=step.next, rax=RESTART, orig_rax=0, rcx=step.next, r11=0x246)


def test_rep_aborted_half_way_keeps_its_progress():
    step = Step("f3 a4")
    assert step.abort(step.begin(rcx=9), rcx=5) == registers(rcx=5)


def test_refused_plan_cannot_be_rehearsed():
    with pytest.raises(ValueError, match="refused"):
        Rehearsal(plan(b"\xcc", IP))


def test_registers_of_another_size():
    with pytest.raises(ValueError, match="216 bytes, not 3"):
        Rehearsal(plan(b"\x55", IP, SLOT)).begin(b"abc")
