"""Instructions that out-of-line execution is known to get wrong: they are always tried."""

from __future__ import annotations

import struct

from uprobes.selftest.forms import Form
from uprobes.selftest.sandbox import DATA_VADDR, SITE_IP
from uprobes.selftest.state import IMAGE_SIZE

_TARGET = DATA_VADDR + IMAGE_SIZE // 2


def _code(text: str) -> bytes:
    """Hexadecimal bytes; `rip` stands for the displacement that leads to the data."""
    length = len(bytes.fromhex(text.replace("rip", "00000000")))
    return bytes.fromhex(text.replace("rip", struct.pack("<i", _TARGET - SITE_IP - length).hex()))


HARD: dict[str, Form] = {
    name: Form(_code(text), name.endswith(("call", "jmp", "ret")) or " through " in name)
    for name, text in {
        "vpor": "c5 e9 eb cb",
        "vpsubsb": "c5 e9 e8 cb",
        "vpcmpeqb": "c5 e9 74 cb",
        "vpshufd": "c5 f9 70 cb 1b",
        "vpxor": "c5 e9 ef cb",
        "vmovdqa [rip]": "c5 f9 6f 05 rip",
        "vpxorq zmm": "62 f1 ed 48 ef cb",
        "vmovdqa64 zmm, [rip]": "62 f1 fd 48 6f 05 rip",
        "vaddph zmm": "62 f5 6c 48 58 cb",
        "vcmpph k1, zmm, [rip]": "62 f3 6c 48 c2 0d rip 01",
        "ldtilecfg [rip]": "c4 e2 78 49 05 rip",
        "sttilecfg [rip]": "c4 e2 79 49 05 rip",
        "tilerelease": "c4 e2 78 49 c0",
        "tilezero": "c4 e2 7b 49 c8",
        "tileloadd [rbx+rcx]": "c4 e2 7b 4b 0c 0b",
        "tilestored [rbx+rcx]": "c4 e2 7a 4b 0c 0b",
        "tdpbssd": "c4 e2 63 5e ca",
        "tdpbf16ps": "c4 e2 62 5c ca",
        "xtest": "0f 01 d6",
        "lock xadd": "f0 48 0f c1 0b",
        "lock inc [rip]": "f0 ff 05 rip",
        "lock cmpxchg16b [rip]": "f0 48 0f c7 0d rip",
        "pushfq": "9c",
        "pushfw": "66 9c",
        "popfq": "9d",
        "syscall": "0f 05",
        "syscall, with a prefix": "48 0f 05",
        "int 0x80": "cd 80",
        "xchg r8d, eax (41 90)": "41 90",
        "xchg r8, rax (49 90)": "49 90",
        "xchg r8d, eax (f3 41 90)": "f3 41 90",
        "cmove rcx, [rip], with f2": "f2 48 0f 44 0d rip",
        "cmovne rcx, [rip], with f3": "f3 48 0f 45 0d rip",
        "mov ax, [rip], REX before 66": "48 66 8b 05 rip",
        "mov ah, [rip]": "8a 25 rip",
        "mov rsi, [rip]": "48 8b 35 rip",
        "lea rax, [rip]": "48 8d 05 rip",
        "mov dword [rip], imm32": "c7 05 rip 01 02 03 04",
        "push [rip]": "ff 35 rip",
        "pop [rip]": "8f 05 rip",
        "jmp through [rip]": "ff 25 rip",
        "call through [rip]": "ff 15 rip",
        "call through [rsp+8]": "ff 54 24 08",
        "call": "e8 10 00 00 00",
        "call, with 66 66 48": "66 66 48 e8 10 00 00 00",
        "jne, hinted": "3e 75 10",
        "je, hinted": "2e 74 10",
        "jne, bound": "f2 75 10",
        "loop": "e2 10",
        "loop, with 67": "67 e2 10",
        "loopne, with f3": "f3 e0 10",
        "jecxz": "67 e3 10",
        "rep movsb": "f3 a4",
        "repne scasb": "f2 ae",
        "ret": "c3",
        "bnd ret": "f2 c3",
        "enter": "c8 20 00 02",
        "leave": "c9",
        "sldt": "0f 00 c0",
        "smsw": "0f 01 e0",
        "sgdt [rip]": "0f 01 05 rip",
        "fxsave [rip]": "0f ae 05 rip",
        "endbr64": "f3 0f 1e fa",
        "rdsspq": "f3 48 0f 1e c8",
    }.items()
}
