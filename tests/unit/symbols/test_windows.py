"""Windows of compiled files: everything that may lead into them is found, whatever table names it."""

import subprocess
from pathlib import Path

import pytest

from uprobes.refusal import Refusal
from uprobes.symbols.binary import Binary
from uprobes.windows import jump_coverage, module_windows

LIBRARIES = "/usr/lib/x86_64-linux-gnu/"
ASSEMBLY = r"""
    .macro function name
    .p2align 4
    .globl \name
    .type \name, @function
    \name: .cfi_startproc
    .endm
    .macro end name
    .cfi_endproc
    .size \name, . - \name
    .endm
    .text
function pointed           # a pointer in data leads into its first bytes
    xor %eax, %eax
.Lpointed:
    xor %ecx, %ecx
    xor %edx, %edx
    ret
end pointed
function labelled          # so does a lea in another function
    xor %eax, %eax
.Llabelled:
    xor %ecx, %ecx
    xor %edx, %edx
    ret
end labelled
function takes
    lea .Llabelled(%rip), %rax
    ret
end takes
function crossed           # and a jump of another function
    xor %eax, %eax
.Lcrossed:
    xor %ecx, %ecx
    xor %edx, %edx
    ret
end crossed
function crosses
    test %edi, %edi
    je .Lcrossed
    ret
end crosses
function plain
    xor %eax, %eax
    xor %ecx, %ecx
    xor %edx, %edx
    ret
end plain
    .section .data.rel, "aw"
    .quad .Lpointed
    .section .note.GNU-stack, "", @progbits
"""
PROGRAM = r"""
int choose(int n, int a) {
    switch (n) {
    case 0: return a * 3; case 1: return a - 7; case 2: return a ^ 5; case 3: return a << 2; case 4: return ~a;
    case 5: return a / 3; default: return 1;
    }
}
int interpret(const unsigned char *code, int value) {
    static void *const places[] = {&&stop, &&more, &&less, &&twice};
    goto *places[*code++];
more: value++; goto *places[*code++];
less: value--; goto *places[*code++];
twice: value *= 2; goto *places[*code++];
stop: return value;
}
int distances(const unsigned char *code, int value) {
    static const int places[] = {&&stop - &&stop, &&more - &&stop, &&less - &&stop, &&twice - &&stop};
    goto *(&&stop + places[*code++]);
more: value++; goto *(&&stop + places[*code++]);
less: value--; goto *(&&stop + places[*code++]);
twice: value *= 2; goto *(&&stop + places[*code++]);
stop: return value;
}
extern void work(int), leave(int *);
int guarded(int n) {
    __attribute__((cleanup(leave))) int held = n;
    work(n);
    work(n + 1);
    return held;
}
__attribute__((weak)) void work(int n) { __asm__ volatile("" :: "r"(n)); }
__attribute__((weak)) void leave(int *held) { *held = 0; }
int main(int count, char **words) { return choose(count, 3) + interpret((void *)words[0], 1)
    + distances((void *)words[0], 1) + guarded(count); }
"""


def compiled(directory, language, source, *options):
    path = directory / "made"
    command = ["gcc", "-x", language, "-", "-o", str(path), *options]
    subprocess.run(command, input=source, text=True, check=True)
    return str(path)


def addresses(path, *names):
    with Binary.open(path) as binary:
        return [binary.functions.named(name)[0].vaddr for name in names]


def test_all_that_leads_into_a_function(tmp_path):
    path = compiled(tmp_path, "assembler", ASSEMBLY, "-shared", "-nostdlib")
    names = "pointed", "labelled", "crossed"
    entries = addresses(path, *names, "plain")
    windows = module_windows(path)
    assert list(windows.find(entries).refusals) == [Refusal.SHORT] * 3 + [Refusal.NONE]
    assert windows.entries >= set(entries)
    behind = windows.find(entry + 2 for entry in entries)
    assert list(behind.starts) == [entry + 2 for entry in entries[:3]] + entries[3:]


@pytest.mark.parametrize(
    "options", [("-O2",), ("-O2", "-no-pie", "-fno-pie"), ("-O0",), ("-Os", "-fcf-protection=full")]
)
def test_places_within_functions(tmp_path, options):
    """Every `case`, every label and every landing pad is a target."""
    path = compiled(tmp_path, "c", PROGRAM, *options, "-fexceptions")
    windows = module_windows(path)
    text = windows.text
    names = "choose", "interpret", "distances", "guarded"
    for name, start in zip(names, addresses(path, *names), strict=True):
        with Binary.open(path) as binary:
            end = binary.functions.extent_at(start).end
        targets = len(text.targets(start, end))
        assert targets >= {"choose": 7, "interpret": 5, "distances": 5, "guarded": 3}[name], name
        assert windows.site(start).refusal in (Refusal.NONE, Refusal.INDIRECT)


def test_landing_pads_are_found(tmp_path):
    path = compiled(tmp_path, "c", PROGRAM, "-O2", "-fexceptions", "-fno-reorder-blocks-and-partition")
    with Binary.open(path) as binary:
        assert [start for start, _ in binary.functions.frames.handler_tables()] == addresses(path, "guarded")


def test_a_damaged_table_of_handlers_opens_its_function(tmp_path):
    path = compiled(tmp_path, "c", PROGRAM, "-O2", "-fexceptions", "-fno-reorder-blocks-and-partition")
    with Binary.open(path) as binary:
        [(start, table)] = binary.functions.frames.handler_tables()
        offset, end = binary.file_offset(table), binary.functions.extent_at(start).end
    content = bytearray(Path(path).read_bytes())
    content[offset : offset + 8] = b"\x7f" * 8  # a number format that there is not
    damaged = tmp_path / "damaged"
    damaged.write_bytes(content)
    text = module_windows(str(damaged)).text
    assert text.instructions(start, end) == text.targets(start, end)


@pytest.mark.parametrize(
    "path",
    [
        *(LIBRARIES + name for name in ("libc.so.6", "libcrypto.so.3", "libpython3.11.so.1.0", "libstdc++.so.6")),
        "/usr/lib/postgresql/15/bin/postgres",
    ],
)
def test_coverage(path):
    coverage = jump_coverage(path)
    assert coverage.entries.total() > 3000
    assert coverage.share(coverage.entries) >= 0.995
    assert coverage.share(coverage.instructions) >= 0.9


def test_windows_are_kept_for_as_long_as_the_file_is_the_same(tmp_path):
    path = compiled(tmp_path, "c", PROGRAM, "-O2")
    first = module_windows(path)
    assert module_windows(path) is first
    compiled(tmp_path, "c", PROGRAM.replace("a * 3", "a * 5"), "-O0")
    assert module_windows(path) is not first
