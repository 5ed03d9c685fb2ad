"""Offsets, sizes, targets and kinds of control flow against iced-x86: what a relocator rewrites."""

from collections.abc import Iterator

import numpy as np
import pytest
from iced_x86 import Code, Decoder, FlowControl, Instruction

from tests.differential import iced, ours
from tests.differential.forms import drawn

SEQUENCES = 800_000
RIP_RELATIVE = 1 << 1  # enum insn_attr
MOFFS = range(0xA0, 0xA4)
# enum insn_flow, in its order → what iced may call it.
FLOWS = {
    "next": {FlowControl.NEXT},
    "jmp": {FlowControl.UNCONDITIONAL_BRANCH},
    "jcc": {FlowControl.CONDITIONAL_BRANCH},
    "loop": {FlowControl.CONDITIONAL_BRANCH},
    "call": {FlowControl.CALL},
    "jmp indirect": {FlowControl.INDIRECT_BRANCH},
    "call indirect": {FlowControl.INDIRECT_CALL},
    "ret": {FlowControl.RETURN},
    "jmp far": {FlowControl.INDIRECT_BRANCH, FlowControl.UNCONDITIONAL_BRANCH},
    "call far": {FlowControl.INDIRECT_CALL, FlowControl.CALL},
    "ret far": {FlowControl.RETURN},
    "iret": {FlowControl.RETURN},
    "syscall": {FlowControl.CALL},
    "sysret": {FlowControl.RETURN},
    "int": {FlowControl.INTERRUPT},
    "xbegin": {FlowControl.XBEGIN_XABORT_XEND},
    "xabort": {FlowControl.XBEGIN_XABORT_XEND, FlowControl.NEXT},
    "never": {FlowControl.EXCEPTION, FlowControl.NEXT},  # hlt faults in user mode
}
# A hypervisor or a fault comes between, but then it goes on: to iced they are calls and returns.
GOES_ON = frozenset(
    {Code.VMCALL, Code.VMMCALL, Code.VMGEXIT, Code.VMGEXIT_F2, Code.VMLAUNCH, Code.VMRESUME, Code.SKINIT}
    | {Code.VMRUNW, Code.VMRUND, Code.VMRUNQ}
)


@pytest.fixture(scope="module")
def pairs() -> list[tuple[np.void, Instruction, dict[str, int]]]:
    """(ours, iced's, iced's offsets) for a few instructions of every form."""
    return list(decoded_by_both())


def decoded_by_both() -> Iterator[tuple[np.void, Instruction, dict[str, int]]]:
    for bits, codes, decoded in drawn(0, SEQUENCES, each=3):
        for code, insn in zip(codes, decoded.insn, strict=True):
            decoder = Decoder(bits, code.tobytes()[:15], iced.OPTIONS, ours.IP)
            instruction = decoder.decode()
            if not instruction.is_invalid and instruction.len == insn["length"]:
                yield insn, instruction, offsets_of(decoder, insn, instruction)


def offsets_of(decoder: Decoder, insn: np.void, instruction: Instruction) -> dict[str, int]:
    """Where displacement and immediates lie, in the words of insn_t."""
    found = decoder.get_constant_offsets(instruction)
    disp = (found.displacement_offset, found.displacement_size)
    imm = (found.immediate_offset, found.immediate_size + found.immediate_size2)
    if insn["map"] == 0 and insn["opcode"] in MOFFS:
        disp, imm = (0, 0), disp  # a memory offset takes an immediate's place
    elif imm == (0, 0) and names_register_by_immediate(insn, instruction):
        imm = (instruction.len - 1, 1)
    return {"disp_off": disp[0], "disp_size": disp[1], "imm_off": imm[0], "imm_size": imm[1]}


def names_register_by_immediate(insn: np.void, instruction: Instruction) -> bool:
    """An is4 byte (VEX or XOP, four register or memory operands): to iced no immediate."""
    return instruction.op_count == 4 and insn["encoding"] in (ours.ENC_VEX, ours.ENC_XOP)


def test_offsets_and_sizes(pairs):
    wrong = []
    for insn, instruction, expected in pairs:
        for name, value in expected.items():
            size = insn[name.split("_")[0] + "_size"]
            if (insn[name] if size else 0) != value:
                wrong.append(f"{instruction}: {name} {insn[name]}, {value} expected")
    assert not wrong, "\n".join(wrong[:50])


def test_rip_relative_operands_and_targets(pairs):
    wrong = []
    for insn, instruction, _ in pairs:
        expected = bool(instruction.is_ip_rel_memory_operand), iced.target(instruction)
        if (bool(insn["attrs"] & RIP_RELATIVE), int(insn["target"])) != expected:
            wrong.append(f"{instruction}: {int(insn['target']):#x}, {expected[1]:#x} expected")
    assert not wrong, "\n".join(wrong[:50])
    assert sum(instruction.is_ip_rel_memory_operand for _, instruction, _ in pairs) > 100


def test_flow(pairs):
    wrong = []
    for insn, instruction, _ in pairs:
        name, possible = list(FLOWS.items())[insn["flow"]]
        if instruction.flow_control not in possible and instruction.code not in GOES_ON:
            wrong.append(f"{instruction}: {name}")
    assert not wrong, "\n".join(wrong[:50])
