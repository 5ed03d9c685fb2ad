"""APX by the notation of its architecture specification: what it adds to decoding, and only with the flag."""

import pytest

from uprobes.insn import DecodeError, decode

# (bytes, mnemonic, operand size, read, written), `f:` a flag.
# fmt: off
CASES = [
    # REX2: M0 R4 X4 B4 W R3 X3 B3
    ("d5 08 01 c0", "add", 8, "rax", "rax f:cf f:pf f:af f:zf f:sf f:of"),
    ("d5 50 89 c0", "mov", 4, "r16", "r16"),
    ("d5 7f 8b 44 ff 10", "mov", 8, "r31", "r24"),
    ("d5 80 af c8", "imul", 4, "rax rcx", "rcx f:cf f:pf f:af f:zf f:sf f:of"),
    ("66 d5 10 8b c1", "mov", 2, "r17", "rax"),
    ("d5 10 50", "push", 8, "r16 rsp", "rsp"),
    ("d5 18 50", "push", 8, "r16 rsp", "rsp"),  # PUSHP: W says that a POPP matches it
    ("d5 11 b8 11 22 33 44", "mov", 4, "", "r24"),
    ("d5 18 b8 11 22 33 44 55 66 77 88", "mov", 8, "", "r16"),
    ("d5 10 90", "xchg", 4, "rax r16", "rax r16"),  # B4 makes it more than a NOP
    ("d5 00 90", "nop", 4, "", ""),
    ("d5 00 a1 11 22 33 44 55 66 77 88", "jmpabs", 8, "", ""),
    ("f0 d5 10 01 00", "add", 4, "r16 rax", "f:cf f:pf f:af f:zf f:sf f:of"),
    ("d5 10 04 05", "add", 1, "rax", "rax f:cf f:pf f:af f:zf f:sf f:of"),
    # no base with base 101 and mod 0, whatever B4; no index only with number 4
    ("d5 10 8b 04 25 11 22 33 44", "mov", 4, "", "rax"),
    ("d5 20 8b 04 20", "mov", 4, "rax r20", "rax"),
    ("d5 10 8b 04 24", "mov", 4, "r20", "rax"),
    # EVEX map 4: new data destination, no flags
    ("62 f4 7c 08 01 c1", "add", 4, "rax rcx", "rcx f:cf f:pf f:af f:zf f:sf f:of"),
    ("62 f4 7c 0c 01 c1", "add", 4, "rax rcx", "rcx"),
    ("62 f4 6c 18 01 c1", "add", 4, "rax rcx", "rdx f:cf f:pf f:af f:zf f:sf f:of"),
    ("62 f4 6d 1c 01 c1", "add", 2, "rax rcx", "rdx"),
    ("62 fc 84 14 01 c1", "add", 8, "rax r17", "r31"),
    ("62 f4 7d 08 81 c1 11 22", "add", 2, "rcx", "rcx f:cf f:pf f:af f:zf f:sf f:of"),
    ("62 f4 fd 08 81 c1 11 22 33 44", "add", 8, "rcx", "rcx f:cf f:pf f:af f:zf f:sf f:of"),
    ("62 f4 7c 08 10 c1", "adc", 1, "rax rcx f:cf", "rcx f:cf f:pf f:af f:zf f:sf f:of"),
    ("62 f4 6c 18 f7 d1", "not", 4, "rcx", "rdx"),
    ("62 f4 7c 0c f7 f1", "div", 4, "rax rcx rdx", "rax rdx"),
    ("62 f4 7c 0c c1 e1 05", "shl", 4, "rcx", "rcx"),
    ("62 f4 7c 08 60 c1", "movbe", 4, "rcx", "rax"),
    # conditions
    ("62 f4 04 02 39 c1", "ccmp", 4, "rax rcx f:of f:sf f:zf f:cf", "f:cf f:pf f:af f:zf f:sf f:of"),
    ("62 f4 7c 0a f6 c1 05", "ctest", 1, "rcx f:of f:sf f:zf f:cf", "f:cf f:pf f:af f:zf f:sf f:of"),
    ("62 f4 6c 18 44 c1", "cmove", 4, "rax rcx f:zf", "rdx"),
    ("62 f4 7c 08 44 c1", "cfcmove", 4, "rcx f:zf", "rax"),
    ("62 f4 7c 0c 44 01", "cfcmove", 4, "rax rcx f:zf", ""),
    ("62 f4 7f 18 44 c1", "sete", 1, "f:zf", "rcx"),
    # two registers at once
    ("62 f4 6c 18 ff f1", "push2", 8, "rcx rdx rsp", "rsp"),
    ("62 f4 ec 18 8f c1", "pop2", 8, "rsp", "rcx rdx rsp"),
    # what VEX had, and vectors with general registers from 16 on
    ("62 f2 6c 0c f2 c1", "andn", 4, "rdx rcx", "rax"),
    ("62 fa 6c 08 f2 c1", "andn", 4, "rdx r17", "rax f:cf f:pf f:af f:zf f:sf f:of"),
    ("62 f1 7c 08 90 c8", "kmovw", 2, "", ""),
    ("62 fa 7d 48 7c c1", "vpbroadcastd", 4, "r17", ""),
    ("62 f9 7c 48 10 40 01", "vmovups", 64, "r16", ""),
]
REFUSED = {
    "d5 00 0f 05": "0F after REX2 is no escape",
    "d5 00 70 05": "row 7 has no REX2 form",
    "d5 00 e8 00 00 00 00": "nor has row E",
    "d5 80 30": "nor row 3 of map 0F",
    "d5 80 84 00 00 00 00": "nor row 8",
    "d5 80 ae 20": "nor XSAVE",
    "48 d5 00 90": "REX before REX2",
    "d5 c0 20 c0": "there is no control register 16",
    "66 d5 00 a1 11 22 33 44 55 66 77 88": "JMPABS takes no 66",
    "62 f4 7d 08 00 c1": "66 on an operand of bytes",
    "62 f4 7c 0c 10 c1": "ADC has no form without flags",
    "62 f4 6c 08 01 c1": "a new data destination without ND",
    "62 f4 7c 28 01 c1": "a vector length",
    "62 f4 78 08 01 c1": "X4 without an index",
    "62 f4 6c 18 ff f4": "PUSH2 of rsp",
    "62 f4 6c 18 8f c2": "POP2 of one register twice",
    "66 62 f4 7c 08 01 c1": "66 before EVEX",
}
# fmt: on


def names(insn, kind):
    return getattr(insn, {"read": "reads", "written": "writes"}[kind]) | {
        f"f:{flag}" for flag in getattr(insn, {"read": "flags_read", "written": "flags_written"}[kind])
    }


@pytest.mark.parametrize(("text", "mnemonic", "size", "read", "written"), CASES)
def test_instructions(text, mnemonic, size, read, written):
    code = bytes.fromhex(text)
    insn = decode(code, apx=True)
    assert (insn.bytes, insn.mnemonic, insn.operand_size) == (code, mnemonic, size)
    assert names(insn, "read") == set(read.split())
    assert names(insn, "written") == set(written.split())


@pytest.mark.parametrize("text", [case[0] for case in CASES])
def test_not_without_the_flag(text):
    with pytest.raises(DecodeError, match="no such instruction"):
        decode(bytes.fromhex(text))


@pytest.mark.parametrize("text", [case[0] for case in CASES])
def test_not_in_32_bit_mode(text):
    code = bytes.fromhex(text)
    try:
        found = decode(code, bits=32, apx=True).bytes
    except DecodeError as error:
        found = str(error)
    try:
        plain = decode(code, bits=32).bytes
    except DecodeError as error:
        plain = str(error)
    assert found == plain


@pytest.mark.parametrize("text", REFUSED, ids=REFUSED.values())
def test_refusals(text):
    with pytest.raises(DecodeError):
        decode(bytes.fromhex(text), apx=True)
