"""Whatever bytes are planned: the slot is sound, the site's bits suffice, and no register state is out of bounds."""

import iced_x86
from hypothesis import given
from hypothesis import strategies as st

from uprobe_core.abi import SLOT_SIZE
from uprobe_core.x86.rehearsal import Rehearsal
from uprobe_core.x86.relocate import plan
from uprobes.refusal import Refusal
from uprobes.selftest.registers import REGISTERS, register_get, register_set, registers_pack

IP = 0x5555_5555_4000
SLOTS = {"near": IP + 0x10_0000, "any": 0x7FFF_0000_0000, "below": IP - 0x10_0000, "none": 0}
LONGEST = 15

CODES = st.binary(min_size=1, max_size=LONGEST).map(lambda head: head + b"\x90" * LONGEST)
PREFIXED = st.tuples(
    st.lists(st.sampled_from(b"\x66\xf2\xf3\xf0\x2e\x3e\x64\x65\x67\x48\x41\x4f"), max_size=6).map(bytes),
    st.sampled_from([b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a", b"\xc5\xf9", b"\xc4\xe2\x79", b"\x62\xf1\xfd\x48"]),
    st.binary(min_size=2, max_size=8),
).map(lambda parts: b"".join(parts) + b"\x05" * LONGEST)
OPTIONS = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(["auto", "trap", "step"]),
        "rip": st.sampled_from(["auto", "scratch", "segment", "displacement"]),
        "reach": st.sampled_from(["near", "any", "none"]),
    }
)
WORDS = st.integers(0, (1 << 64) - 1)


def planned(code, options):
    """The plan with a slot where it says that it must lie, or None."""
    try:
        made = plan(code, IP, **options)
    except ValueError:
        return None
    if made.refusal:
        assert Refusal(made.refusal).sentence
        return None
    return plan(code, IP, SLOTS[made.place] or None, **options)


@given(CODES | PREFIXED, OPTIONS)
def test_a_slot_begins_with_one_whole_instruction(code, options):
    made = planned(code, options)
    if made is None or not made.slot:
        return
    assert len(made.slot) <= SLOT_SIZE
    assert made.copy_length <= LONGEST
    assert made.operand < 16
    decoded = iced_x86.Decoder(64, made.slot, options=iced_x86.DecoderOptions.AMD, ip=made.slot_ip).decode()
    # The peer does not know every byte sequence that the processor runs; a length it must agree on.
    if decoded.code != iced_x86.Code.INVALID and made.kind_name.startswith("step"):
        assert decoded.len == made.copy_length


@given(CODES | PREFIXED, OPTIONS, st.lists(WORDS, min_size=len(REGISTERS), max_size=len(REGISTERS)))
def test_any_registers_can_be_taken_in_and_out_of_a_slot(code, options, words):
    made = planned(code, options)
    if made is None:
        return
    hit = Rehearsal(made)
    before = registers_pack(dict(zip(REGISTERS, words, strict=True)))
    if made.kind_name.startswith("step:"):
        begun = hit.begin(before)
        assert register_get(begun, "rip") == made.slot_ip
        back = register_set(register_set(before, "rip", IP), "eflags", register_get(before, "eflags"))
        assert hit.abort(begun) == back
        outcome, after = hit.finish(register_set(begun, "rip", made.slot_ip + made.copy_length))
        assert outcome in {"done", "again", "failed"}
        assert after == begun or register_get(after, "rsi") == register_get(before, "rsi")
    elif not hit.sets_ip():
        assert hit.emulate(before)[0] in {"done", "ip", "read", "faults"}


@given(CODES | PREFIXED, OPTIONS, st.integers(-2, SLOT_SIZE + 1))
def test_any_place_in_a_slot_is_resolved_or_left_alone(code, options, offset):
    made = planned(code, options)
    if made is None or made.slot_ip is None:
        return
    before = register_set(registers_pack(dict.fromkeys(REGISTERS, 0)), "rip", made.slot_ip + offset)
    outcome, after = Rehearsal(made).resolve(before)
    if outcome == "failed":
        assert after == before
    else:
        assert not 0 <= register_get(after, "rip") - made.slot_ip < SLOT_SIZE
    if offset == 0:
        assert outcome == "back"
