"""General registers and flags that an instruction reads, writes and overwrites."""

import pytest

from uprobes.insn import decode


def effects(text, bits=64):
    found = decode(bytes.fromhex(text), bits=bits, vendor="amd")
    return tuple(" ".join(sorted(names)) for names in (found.reads, found.writes, found.kills))


def flags(text):
    found = decode(bytes.fromhex(text), vendor="amd")
    return tuple(" ".join(sorted(names)) for names in (found.flags_read, found.flags_written, found.flags_undefined))


@pytest.mark.parametrize(
    ("code", "reads", "writes", "kills"),
    [
        ("48 8b 05 00 00 00 00", "", "rax", "rax"),  # mov rax, [rip]
        ("48 8b 04 8b", "rbx rcx", "rax", "rax"),
        ("8b 04 cd 00 00 00 00", "rcx", "rax", "rax"),  # no base
        ("4a 8b 04 23", "r12 rbx", "rax", "rax"),  # r12 can be an index
        ("48 89 03", "rax rbx", "", ""),
        ("01 c8", "rax rcx", "rax", ""),
        ("66 89 c8", "rcx", "rax", ""),  # a part of rax
        ("88 e0", "rax", "rax", ""),  # mov al, ah
        ("40 88 e0", "rsp", "rax", ""),  # mov al, spl
        ("89 c8", "rcx", "rax", "rax"),  # clears the upper half
        ("8d 04 0b", "rbx rcx", "rax", "rax"),
        ("31 c0", "", "rax", "rax"),
        ("30 c0", "", "rax", ""),
        ("29 c9", "", "rcx", "rcx"),
        ("19 c0", "", "rax", "rax"),  # sbb: on CF alone
        ("31 c1", "rax rcx", "rcx", ""),
        ("0f 1f 44 08 00", "", "", ""),
        ("50", "rax rsp", "rsp", ""),
        ("58", "rsp", "rax rsp", "rax"),
        ("ff 34 25 00 00 00 00", "rsp", "rsp", ""),
        ("c9", "rbp", "rbp rsp", "rsp"),
        ("48 f7 e1", "rax rcx", "rax rdx", "rdx"),
        ("f6 e1", "rax rcx", "rax", ""),
        ("66 f7 e1", "rax rcx", "rax rdx", ""),
        ("48 f7 f1", "rax rcx rdx", "rax rdx", ""),
        ("48 99", "rax", "rdx", "rdx"),
        ("d3 e0", "rax rcx", "rax", ""),
        ("48 0f b1 0b", "rax rbx rcx", "rax", ""),
        ("48 0f c7 0e", "rax rbx rcx rdx rsi", "rax rdx", ""),
        ("0f a2", "rax rcx", "rax rbx rcx rdx", "rbx rdx"),
        ("a4", "rdi rsi", "rdi rsi", ""),
        ("f3 a4", "rcx rdi rsi", "rcx rdi rsi", ""),
        ("ad", "rsi", "rax rsi", "rax"),
        ("f3 ad", "rcx rsi", "rax rcx rsi", ""),  # perhaps not once
        ("d7", "rax rbx", "rax", ""),
        ("e2 00", "rcx", "rcx", ""),
        ("0f 44 c1", "rax rcx", "rax", ""),  # clears the upper half even if not taken
        ("48 0f 44 c1", "rcx", "rax", ""),
        ("0f bc c1", "rcx", "rax", ""),
        ("f3 0f bc c1", "rcx", "rax", "rax"),
        ("0f c8", "rax", "rax", ""),
        ("48 87 c1", "rax rcx", "rax rcx", ""),
        ("c4 e2 73 f6 c3", "rbx rdx", "rax rcx", "rax rcx"),  # mulx
        ("c4 e2 70 f2 c3", "rbx rcx", "rax", "rax"),  # andn
        ("c4 e2 78 f3 cb", "rbx", "rax", "rax"),  # blsr: the destination is vvvv
        ("c4 e2 71 90 14 18", "rax", "", ""),  # the index is a vector
        ("66 0f 38 f8 00", "rax", "", ""),  # movdir64b [rax], [rax]
        ("66 0f f7 c1", "rdi", "", ""),
        ("66 0f 3a 61 c1 00", "rax rdx", "rcx", "rcx"),
        ("0f 01 f9", "", "rax rcx rdx", "rax rcx rdx"),
        ("0f 18 00", "rax", "", ""),  # a prefetch looks at its address
        ("67 8b 03", "rbx", "rax", "rax"),
    ],
)
def test_registers(code, reads, writes, kills):
    assert effects(code) == (reads, writes, kills)


@pytest.mark.parametrize(
    ("code", "reads", "writes"),
    [
        ("67 8b 00", "rbx rsi", "rax"),  # [bx+si]
        ("67 8b 06 00 00", "", "rax"),  # [disp16]
        ("67 8b 46 00", "rbp", "rax"),
        ("60", "rax rbp rbx rcx rdi rdx rsi rsp", "rsp"),
        ("40", "rax", "rax"),
    ],
)
def test_registers_in_32_bit_mode(code, reads, writes):
    assert effects(code, 32)[:2] == (reads, writes)


@pytest.mark.parametrize(
    ("code", "read", "written", "undefined"),
    [
        ("01 c8", "", "af cf of pf sf zf", ""),
        ("21 c8", "", "af cf of pf sf zf", "af"),
        ("11 c8", "cf", "af cf of pf sf zf", ""),
        ("ff c0", "", "af of pf sf zf", ""),
        ("f7 d0", "", "", ""),
        ("f7 d8", "", "af cf of pf sf zf", ""),
        ("c1 e0 05", "", "af cf of pf sf zf", "af of"),
        ("c1 e0 01", "", "af cf of pf sf zf", "af"),
        ("c1 e0 20", "", "", ""),  # a count of 0
        ("48 c1 e0 20", "", "af cf of pf sf zf", "af of"),
        ("d1 d0", "cf", "cf of", ""),
        ("74 00", "zf", "", ""),
        ("0f 47 c1", "cf zf", "", ""),
        ("0f 9c c0", "of sf", "", ""),
        ("f5", "cf", "cf", ""),
        ("66 0f 38 f6 c1", "cf", "cf", ""),
        ("f3 0f 38 f6 c1", "of", "of", ""),
        ("a6", "df", "af cf of pf sf zf", ""),
        ("a4", "df", "", ""),
        ("fd", "", "df", ""),
        ("9c", "ac af cf df if nt of pf sf tf zf", "", ""),
        ("66 9c", "af cf df if nt of pf sf tf zf", "", ""),
        ("9e", "", "af cf pf sf zf", ""),
        ("0f 2e c1", "", "af cf of pf sf zf", ""),
        ("8d 00", "", "", ""),
        ("c4 e2 71 f7 c3", "", "", ""),  # shlx
        ("db f1", "", "af cf of pf sf zf", ""),
    ],
)
def test_flags(code, read, written, undefined):
    assert flags(code) == (read, written, undefined)
