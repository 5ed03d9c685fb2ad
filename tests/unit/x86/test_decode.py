"""Every field of a decoded instruction, one rule of the encoding at a time."""

import ctypes
import mmap

import pytest

from uprobes.insn import DecodeError, decode

IP = 0x40_1000


def insn(text, bits=64, vendor="amd", address=IP):
    return decode(bytes.fromhex(text), address, bits, vendor)


@pytest.mark.parametrize(
    ("code", "mnemonic", "length"),
    [
        ("90", "nop", 1),
        ("41 90", "xchg", 2),
        ("f3 90", "pause", 2),
        ("f3 41 90", "xchg", 3),
        ("48 63 c1", "movsxd", 3),
        ("98", "cwde", 1),
        ("66 98", "cbw", 2),
        ("48 98", "cdqe", 2),
        ("e3 00", "jrcxz", 2),
        ("67 e3 00", "jecxz", 3),
        ("f2 0f 38 f1 c0", "crc32", 5),
        ("66 0f 6e c0", "movd", 4),
        ("66 48 0f 6e c0", "movq", 5),
        ("c4 e1 f9 6e c0", "vmovq", 5),
        ("0f c7 08", "cmpxchg8b", 3),
        ("48 0f c7 08", "cmpxchg16b", 4),
        ("0f 0f c0 bf", "pavgusb", 4),
        ("0f 0f 05 11 22 33 44 bf", "pavgusb", 8),
        ("8f c0", "pop", 2),
        ("8f e8 78 a2 c1 11", "vpcmov", 6),
        ("8f ea 78 10 c1 11 22 33 44", "bextr", 9),
        ("c4 e2 78 49 c0", "tilerelease", 5),
        ("d9 d8", "fstpnce", 2),
        ("0f ae ef", "lfence", 3),
        ("62 f5 7c 48 58 c1", "vaddph", 6),
    ],
)
def test_names_and_lengths(code, mnemonic, length):
    found = insn(code)
    assert (found.mnemonic, found.length) == (mnemonic, length)


@pytest.mark.parametrize(
    ("code", "offsets", "displacement", "immediate"),
    [
        ("c3", (0, None, None, None, None), None, None),
        ("48 8b 45 f8", (1, 2, None, 3, None), -8, None),
        ("8b 04 24", (0, 1, 2, None, None), None, None),
        ("8b 84 24 00 01 00 00", (0, 1, 2, 3, None), 256, None),
        ("8b 04 25 00 f0 ff ff", (0, 1, 2, 3, None), -4096, None),
        ("66 81 38 fe ff", (1, 2, None, None, 3), None, -2),
        ("48 81 c4 80 00 00 00", (1, 2, None, None, 3), None, 128),
        ("48 b8 88 77 66 55 44 33 22 11", (1, None, None, None, 2), None, 0x1122334455667788),
        ("83 c0 ff", (0, 1, None, None, 2), None, -1),
        ("c1 e0 ff", (0, 1, None, None, 2), None, 255),
        ("c8 10 80 01", (0, None, None, None, 1), None, 0x8010),
        ("a1 88 77 66 55 44 33 22 11", (0, None, None, None, 1), None, 0x1122334455667788),
        ("66 0f 3a 0f c1 05", (3, 4, None, None, 5), None, 5),
        ("c4 e3 79 4a c1 30", (3, 4, None, None, 5), None, 0x30),
    ],
)
def test_where_the_parts_are(code, offsets, displacement, immediate):
    found = insn(code)
    assert tuple(found.offsets) == offsets
    assert (found.displacement, found.immediate) == (displacement, immediate)


@pytest.mark.parametrize(
    ("code", "displacement"),
    [
        ("62 f1 fd 48 10 4c 24 01", 64),  # vmovupd zmm
        ("62 f1 fd 28 10 4c 24 01", 32),  # ymm
        ("62 f1 74 58 58 4c 24 01", 4),  # vaddps {1to16}
        ("62 f1 7e 08 10 4c 24 ff", -4),  # vmovss
        ("62 f1 fd 08 6e 4c 24 01", 8),  # vmovq: by W
        ("62 f2 7d 48 20 4c 24 01", 32),  # vpmovsxbw: half a vector
        ("62 f2 7d 49 90 4c 25 01", 4),  # vpgatherdd: an element
        ("62 f1 fd 48 10 8c 24 01 00 00 00", 1),  # disp32 is never scaled
    ],
)
def test_evex_scales_a_one_byte_displacement(code, displacement):
    assert insn(code).displacement == displacement


@pytest.mark.parametrize(
    ("code", "bits", "prefixes", "segment", "sizes"),
    [
        ("66 01 c0", 64, ("operand-size",), None, (2, 8)),
        ("48 66 01 c0", 64, ("operand-size",), None, (2, 8)),  # a REX that is not last is dead
        ("66 48 01 c0", 64, ("operand-size", "rex"), None, (8, 8)),  # W beats 66
        ("67 8b 00", 64, ("address-size",), None, (4, 4)),
        ("67 8b 07", 32, ("address-size",), None, (4, 2)),
        ("64 2e 8b 03", 64, ("segment",), "fs", (4, 8)),  # CS does not undo FS
        ("65 64 8b 03", 64, ("segment",), "fs", (4, 8)),
        ("2e 8b 03", 64, ("segment",), None, (4, 8)),
        ("2e 8b 03", 32, ("segment",), "cs", (4, 4)),
        ("f0 01 00", 64, ("lock",), None, (4, 8)),
        ("50", 64, (), None, (8, 8)),
        ("66 50", 64, ("operand-size",), None, (2, 8)),
        ("50", 32, (), None, (4, 4)),
        ("c5 fd 6f 00", 64, (), None, (32, 8)),
    ],
)
def test_prefixes_and_sizes(code, bits, prefixes, segment, sizes):
    found = insn(code, bits)
    assert (found.prefixes, found.segment) == (prefixes, segment)
    assert (found.operand_size, found.address_size) == sizes


@pytest.mark.parametrize(
    ("code", "bits", "vendor", "target"),
    [
        ("e8 00 01 00 00", 64, "amd", IP + 0x105),
        ("eb fe", 64, "amd", IP),
        ("66 e8 00 01", 64, "amd", (IP + 0x104) & 0xFFFF),
        ("66 e8 00 01 00 00", 64, "intel", IP + 0x106),
        ("66 48 e8 00 01 00 00", 64, "amd", IP + 0x107),  # W undoes 66
        ("66 75 10", 64, "amd", (IP + 0x13) & 0xFFFF),
        ("66 e8 00 01", 32, "intel", (IP + 0x104) & 0xFFFF),
        ("e9 00 00 00 80", 32, "amd", (IP + 5 - 0x8000_0000) & 0xFFFF_FFFF),
        ("e2 05", 64, "amd", IP + 7),
        ("c7 f8 10 00 00 00", 64, "amd", IP + 0x16),
        ("66 c7 f8 10 00", 64, "amd", IP + 0x15),  # xbegin: 66 makes it short, and truncates nothing
        ("48 8b 05 10 00 00 00", 64, "amd", IP + 0x17),
        ("67 8b 05 f0 ff ff ff", 64, "amd", IP + 7 - 16),
        ("80 3d 10 00 00 00 05", 64, "amd", IP + 0x17),  # the immediate counts
        ("c5 fd 6f 05 10 00 00 00", 64, "amd", IP + 0x18),
        ("8b 05 10 00 00 00", 32, "amd", None),  # absolute
        ("8b 04 25 10 00 00 00", 64, "amd", None),
        ("ff e0", 64, "amd", None),
        ("c3", 64, "amd", None),
    ],
)
def test_targets(code, bits, vendor, target):
    assert insn(code, bits, vendor).target == target


def test_eip_relative_addresses_wrap_at_four_gibibytes():
    assert insn("67 8b 05 f0 ff ff ff", address=0).target == 0xFFFF_FFF7
    assert insn("8b 05 f0 ff ff ff", address=0).target == 0xFFFF_FFFF_FFFF_FFF6


@pytest.mark.parametrize(
    ("code", "flow", "step"),
    [
        ("89 c8", "next", "plain"),
        ("e9 00 00 00 00", "jmp", "plain"),
        ("0f 84 00 00 00 00", "jcc", "plain"),
        ("e0 00", "loop", "plain"),
        ("e8 00 00 00 00", "call", "plain"),
        ("ff e0", "jmp-indirect", "plain"),
        ("ff 10", "call-indirect", "plain"),
        ("c2 08 00", "ret", "plain"),
        ("ff 28", "jmp-far", "plain"),
        ("ff 18", "call-far", "plain"),
        ("cb", "ret-far", "plain"),
        ("48 cf", "iret", "tf-in"),
        ("0f 05", "syscall", "syscall"),
        ("0f 07", "sysret", "fault"),
        ("cd 80", "int", "trap"),
        ("cc", "int", "trap"),
        ("c7 f8 00 00 00 00", "xbegin", "transaction"),
        ("c6 f8 01", "xabort", "transaction"),
        ("0f 0b", "never", "fault"),
        ("f4", "never", "fault"),
        ("f3 a4", "next", "repeat"),
        ("a4", "next", "plain"),
        ("8e d0", "next", "shadow"),
        ("9c", "next", "tf-out"),
        ("9d", "next", "tf-in"),
        ("0f 01 e0", "next", "swallow"),
        ("0f 30", "next", "fault"),
    ],
)
def test_where_control_goes_and_how_it_steps(code, flow, step):
    found = insn(code)
    assert (found.flow, found.step) == (flow, step)


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("8b 00", {"memory_read", "may_fault"}),
        ("89 00", {"memory_written", "may_fault"}),
        ("01 00", {"memory_read", "memory_written", "may_fault"}),
        ("89 c0", set()),
        ("8d 00", set()),
        ("0f 1f 00", set()),
        ("0f 18 00", set()),
        ("50", {"uses_stack", "may_fault"}),
        ("ff 30", {"uses_stack", "memory_read", "may_fault"}),
        ("f0 01 00", {"memory_read", "memory_written", "may_fault", "locked"}),
        ("87 00", {"memory_read", "memory_written", "may_fault", "locked"}),
        ("87 c0", set()),
        ("f3 ab", {"memory_written", "may_fault", "repeated"}),
        ("0f 30", {"privileged", "may_fault", "serialising"}),
        ("e4 10", {"privileged", "may_fault"}),
        ("f7 f1", {"may_fault"}),
        ("0f a2", {"serialising"}),
        ("66 0f f7 c1", {"memory_written", "may_fault"}),
    ],
)
def test_attributes(code, wanted):
    names = (
        *("memory_read", "memory_written", "may_fault", "uses_stack", "locked", "repeated"),
        *("privileged", "serialising"),
    )
    found = insn(code)
    assert {name for name in names if getattr(found, name)} == wanted


HIGH_BYTE, VECTOR, X87, VENDOR, STACK_POINTER = 1 << 11, 1 << 12, 1 << 13, 1 << 15, 1 << 16


@pytest.mark.parametrize(
    ("code", "bit", "present"),
    [
        ("88 e0", HIGH_BYTE, True),  # mov al, ah
        ("40 88 e0", HIGH_BYTE, False),  # mov al, spl
        ("b4 01", HIGH_BYTE, True),
        ("8a 24 24", HIGH_BYTE, True),  # mov ah, [rsp]
        ("88 c0", HIGH_BYTE, False),
        ("88 e0", STACK_POINTER, False),
        ("40 88 e0", STACK_POINTER, True),
        ("8b 04 24", STACK_POINTER, True),
        ("41 8b 04 24", STACK_POINTER, False),  # r12
        ("89 e0", STACK_POINTER, True),
        ("44 89 e0", STACK_POINTER, False),
        ("49 89 e4", STACK_POINTER, True),  # mov r12, rsp
        ("54", STACK_POINTER, True),
        ("41 54", STACK_POINTER, False),
        ("55", STACK_POINTER, False),
        ("c4 e2 58 f2 c1", STACK_POINTER, True),  # andn eax, esp, ecx
        ("c4 e2 18 f2 c1", STACK_POINTER, False),  # r12d
        ("66 0f ef e4", STACK_POINTER, False),  # xmm4 is no rsp
        ("0f 58 c1", VECTOR, True),
        ("c4 e2 78 f2 c1", VECTOR, False),  # BMI uses general registers only
        ("d8 c1", X87, True),
        ("66 75 00", VENDOR, True),
        ("75 00", VENDOR, False),
        ("66 48 e8 00 00 00 00", VENDOR, False),
        ("ff 28", VENDOR, False),
        ("48 ff 28", VENDOR, True),
        ("f0 0f 00 28", VENDOR, True),
    ],
)
def test_what_the_registers_are(code, bit, present):
    assert bool(insn(code).attributes & bit) == present


@pytest.mark.parametrize(
    ("code", "bits", "reason", "offset"),
    [
        ("0f 04", 64, "no such instruction", 1),
        ("06", 64, "no such instruction", 0),
        ("8d c0", 64, "no such instruction", 1),  # lea of a register
        ("0f ba c0 01", 64, "no such instruction", 2),
        ("62 f1 7c 48 77", 64, "no such instruction", 4),
        ("c5 f0 28 c0", 64, "no such instruction", 3),  # vvvv must be 1111
        ("c4 e0 78 10 c0", 64, "no such instruction", 2),  # map 0
        ("f0 01 c0", 64, "lock on an instruction", 2),
        ("f0 90", 64, "lock on an instruction", 1),
        ("66 c5 f8 77", 64, "illegal before vex", 2),
        ("48 c5 f8 77", 64, "illegal before vex", 2),
        ("0f 0f c0 00", 64, "no such instruction", 3),
        ("d6", 64, "no such instruction", 0),
        ("66" * 15, 64, "at most 15 bytes", 14),
        ("66" * 14 + "01 c0", 64, "at most 15 bytes", 14),
        ("2e" * 7 + "48 b8 11 22 33 44 55 66 77 88", 64, "at most 15 bytes", 14),
    ],
)
def test_what_is_refused_and_at_which_byte(code, bits, reason, offset):
    with pytest.raises(DecodeError, match=reason) as caught:
        insn(code, bits)
    assert caught.value.offset == offset
    assert caught.value.code == bytes.fromhex(code)[: offset + 1]


@pytest.mark.parametrize(
    ("code", "bits", "amd", "intel"),
    [
        ("0f 0d c0", 64, False, True),
        ("0f 05", 32, True, False),
        ("0f 34", 64, False, True),
        ("f0 0f 00 28", 64, True, False),
        ("f0 0f 20 c0", 64, True, False),
        ("c5 78 44 c1", 64, True, False),  # knotw with VEX.R
        ("62 f1 74 18 14 c1", 64, True, False),  # EVEX.b without memory or rounding
        ("c4 e3 7d 00 c1 11", 64, True, False),  # vpermq with W=0
    ],
)
def test_vendors_differ(code, bits, amd, intel):
    for vendor, accepts in (("amd", amd), ("intel", intel)):
        if accepts:
            assert insn(code, bits, vendor).length == len(bytes.fromhex(code))
        else:
            with pytest.raises(DecodeError):
                insn(code, bits, vendor)


def test_ud0_has_a_modrm_on_intel_alone():
    assert insn("0f ff 40 11").length == 2
    assert insn("0f ff 40 11", vendor="intel").length == 4


@pytest.mark.parametrize(
    ("code", "mnemonic", "length"),
    [
        ("c4 00", "les", 2),
        ("c5 00", "lds", 2),
        ("62 00", "bound", 2),
        ("c5 f8 77", "vzeroupper", 3),
        ("40", "inc", 1),
        ("48", "dec", 1),
        ("63 c1", "arpl", 2),
        ("82 c0 11", "add", 3),
        ("d5 0a", "aad", 2),
        ("67 8b 06 11 22", "mov", 5),
        ("67 8b 46 11", "mov", 4),
        ("9a 11 22 33 44 55 66", "call", 7),
        ("66 9a 11 22 33 44", "call", 6),
        ("60", "pushad", 1),
    ],
)
def test_32_bit_mode(code, mnemonic, length):
    found = insn(code, 32)
    assert (found.mnemonic, found.length) == (mnemonic, length)


COMPLETE = (
    "c3", "48 8b 84 24 00 01 00 00", "48 b8 11 22 33 44 55 66 77 88", "66 0f 3a 0f c1 05", "0f 0f 05 11 22 33 44 bf",
    "c4 e2 71 90 14 18", "62 f1 fd 48 10 4c 24 01", "8f ea 78 10 c1 11 22 33 44", "2e 2e 64 f3 48 0f 10 40 01",
    "f2 0f 78 c1 04 08", "c8 10 00 01", "e8 00 00 00 00",
)  # fmt: skip


@pytest.mark.parametrize("code", COMPLETE)
def test_every_shorter_piece_is_truncated(code):
    whole = bytes.fromhex(code)
    assert decode(whole, vendor="amd").length == len(whole)
    for size in range(1, len(whole)):
        with pytest.raises(DecodeError, match="goes on after them") as caught:
            decode(whole[:size], vendor="amd")
        assert caught.value.offset == size - 1
    with pytest.raises(DecodeError, match="no bytes"):
        decode(b"")


def test_nothing_past_the_given_bytes_is_read():
    """The bytes end where a page ends that is followed by one that cannot be read."""
    size = mmap.PAGESIZE
    area = mmap.mmap(-1, 2 * size)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    assert libc.mprotect(start + size, size, 0) == 0
    try:
        for code in COMPLETE:
            whole = bytes.fromhex(code)
            for length in range(1, len(whole) + 1):
                area[size - length : size] = whole[:length]
                view = memoryview(area)[size - length : size]
                if length == len(whole):
                    assert decode(view, vendor="amd").length == length
                else:
                    with pytest.raises(DecodeError, match="goes on after them"):
                        decode(view, vendor="amd")
                view.release()
    finally:
        libc.mprotect(start + size, size, mmap.PROT_READ | mmap.PROT_WRITE)
