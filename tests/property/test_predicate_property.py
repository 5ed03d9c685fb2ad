"""A predicate means the same wherever it runs: in Python, in the tracer, in machine code inside the target."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.native.harness import MASK, NAMES, SCRATCH, Area, Board, rseq_offset, run, tid_offset
from tests.unit.x86.test_hitcode import Stack
from uprobe_core.trace.tracer import REGISTERS
from uprobe_core.x86.hitplan import HitPlan
from uprobes.operand import GENERAL
from uprobes.predicate import compile_predicate, evaluate

NAMES_USED = [*GENERAL, "arg0", "arg1", "arg2", "arg3", "arg4", "arg5", "retval", "tid"]
EDGES = [0, 1, 2, 63, 64, 127, 128, 255, 1 << 31, (1 << 31) - 1, 1 << 32, 1 << 63, MASK, MASK - 1]
values = st.one_of(st.sampled_from(EDGES), st.integers(0, MASK))


@st.composite
def expressions(draw, depth=3):
    """Text of an expression."""
    if depth == 0 or draw(st.integers(0, 4)) == 0:
        if draw(st.booleans()):
            return draw(st.sampled_from(NAMES_USED))
        return str(draw(st.one_of(values, st.integers(-(1 << 31), 1 << 31))))
    inner = expressions(depth=depth - 1)
    kind = draw(st.integers(0, 6))
    if kind == 0:
        return f"({draw(inner)} {draw(st.sampled_from(['and', 'or']))} {draw(inner)})"
    if kind == 1:
        return f"(not {draw(inner)})"
    if kind == 2:
        return f"({draw(st.sampled_from('-~+'))}({draw(inner)}))"
    if kind == 3:
        return f"{draw(st.sampled_from(['u8', 'u16', 'u32', 'i8', 'i16', 'i32', 'i64']))}({draw(inner)})"
    if kind == 4:
        sign = draw(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]))
        if draw(st.booleans()):
            return f"({draw(inner)} {sign} {draw(inner)})"
        return f"({draw(inner)} {sign} {draw(inner)} < {draw(inner)})"
    sign = draw(st.sampled_from(["+", "-", "*", "&", "|", "^", "<<", ">>", "//", "%"]))
    return f"({draw(inner)} {sign} {draw(inner)})"


class Machine:
    """Where native code runs: made once, the code goes to the same place again and again."""

    def __init__(self):
        self.area = Area()
        self.board = Board(12)
        self.area.open(self.board)
        self.stack = Stack()

    def holds(self, plan, state, dead, flags_dead):
        """What the native code says; None: not compiled."""
        place = {"dead": dead, "flags_dead": flags_dead, "gate_vaddr": self.area.vaddr}
        self.area.next = 4096
        if plan.assemble(self.area.vaddr, rseq_offset=rseq_offset(), tid_offset=tid_offset(), **place) is None:
            return None
        place.pop("gate_vaddr")
        before = self.board.sum(8)
        after = run(self.area.machine(plan, **place), state)
        for number, name in enumerate(NAMES[:16]):
            assert dead >> number & 1 or after[name] == state[name]
        return self.board.sum(8) - before == 1


MACHINE = Machine()
TID = __import__("threading").get_native_id


@settings(max_examples=400, deadline=None)
@given(expressions(), st.lists(values, min_size=16, max_size=16), st.integers(0, 0xFFFF), st.booleans())
def test_all_three_say_the_same(text, numbers, dead, flags_dead):
    from uprobes.errors import PredicateError

    try:
        predicate = compile_predicate(text)
    except PredicateError as error:
        # The refusals of meaning, not of form: every expression made here is well formed.
        assert any(word in str(error) for word in ("unsigned", "signed values", "operations", "64 bits"))
        return
    numbers[GENERAL.index("rsp")] = MACHINE.stack.middle
    expected = evaluate(predicate.ops, numbers.__getitem__, tid=TID())
    plan = HitPlan(shift=12, offset=8, ops=predicate.ops)
    by_name = dict(zip(GENERAL, numbers, strict=True))
    registers = b"".join(by_name.get(name, 0).to_bytes(8, "little") for name in REGISTERS)
    assert plan.holds(registers, b"", TID()) == expected
    state = {**by_name, "flags": 0x202 | (random.Random(text).getrandbits(12) & 0x8D5)}
    native = MACHINE.holds(plan, state, dead & ~0x10, flags_dead)
    if native is None:
        assert predicate.needs_stop or too_deep(predicate)
    else:
        assert native == expected


def too_deep(predicate):
    """Whether native code may lack registers."""
    return len(predicate.ops) > 12


@pytest.mark.parametrize(
    ("text", "values_", "expected"),
    [
        ("arg0 - arg1 > 5", {"rdi": 1, "rsi": 2}, True),  # wraps
        ("arg0 >> 63 == 1", {"rdi": 1 << 63}, True),
        ("i64(arg0) >> 63 == -1", {"rdi": 1 << 63}, True),
        ("i32(arg0) < 0", {"rdi": 0xFFFFFFFF}, True),
        ("i32(arg0) == -1", {"rdi": 0xABCDFFFFFFFF}, True),
        ("u32(arg0) == 5", {"rdi": 0xABCD00000005}, True),
        ("arg0 == -1", {"rdi": MASK}, True),
        ("1 < arg0 <= 3", {"rdi": 3}, True),
        ("1 < arg0 <= 3", {"rdi": 4}, False),
        ("not (arg0 and arg1)", {"rdi": 2, "rsi": 1}, False),
        ("(arg0 and arg1) == 1", {"rdi": 2, "rsi": 4}, True),
        ("(arg0 or arg1) + 1 == 2", {"rdi": 0, "rsi": 4}, True),
        ("arg0 // 0 == 0", {"rdi": 7}, True),
        ("arg0 % 8 == 7 and arg0 // 8 == 1", {"rdi": 15}, True),
        ("arg0 << 65 == 2", {"rdi": 1}, True),
        ("3", {}, True),
        ("0", {}, False),
    ],
)
def test_what_expressions_mean(text, values_, expected):
    predicate = compile_predicate(text)
    numbers = [values_.get(name, 0) for name in GENERAL]
    assert evaluate(predicate.ops, numbers.__getitem__) is expected
    numbers[4] = MACHINE.stack.middle
    state = {**dict(zip(GENERAL, numbers, strict=True)), "flags": 0x202}
    if not predicate.needs_stop:
        assert MACHINE.holds(HitPlan(shift=12, offset=8, ops=predicate.ops), state, SCRATCH, True) is expected


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("arg0 <", "not an expression"),
        ("foo > 1", "no such name: foo"),
        ("arg0.x", "attribute is not understood"),
        ("arg0 < 0 - 1 and arg0 < -1", "none is below 0"),
        ("1 << 70 == 18446744073709551616", "64 bits"),
        ("i32(arg0) // 3 == 1", "division of signed"),
        ("f(arg0)", "call is not understood"),
        ("arg999 > 1", "no such name"),
        (" + ".join(["arg0"] * 200), "operations"),
        ("(" * 500 + "arg0" + ")" * 500, ""),
        ("arg0 in arg1", "compare is not understood"),
        ("'a' == arg0", "constant is not understood"),
    ],
)
def test_what_is_not_understood_is_said(text, fact):
    from uprobes.errors import PredicateError

    with pytest.raises(PredicateError, match=fact or "."):
        compile_predicate(text)
