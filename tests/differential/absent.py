"""Why would a processor raise #UD on an instruction that is one?

Because it lacks the extension, or for a reason that undefined.txt gives by name.
"""

import functools
from pathlib import Path

import numpy as np
from iced_x86 import CpuidFeature, Instruction

from tests.differential import iced, ours
from tests.oracle import processor

FEATURE_NAMES = {value: name for name, value in vars(CpuidFeature).items() if isinstance(value, int)}
# The kernel's name where it is not the lower-case form of iced's.
# fmt: off
KERNEL_NAMES = {
    "AESKLE": "keylocker", "AVX512_IFMA": "avx512ifma", "AVX512_VBMI": "avx512vbmi", "CET_SS": "user_shstk",
    "CLFSH": "clflush", "CMPXCHG16B": "cx16", "D3NOW": "3dnow", "D3NOWEXT": "3dnowext", "HLE_OR_RTM": "rtm",
    "INVEPT": "vmx", "INVVPID": "vmx", "KL": "keylocker", "LZCNT": "abm", "MONITORX": "mwaitx",
    "PADLOCK_ACE": "ace", "PADLOCK_GMI": "gmi", "PADLOCK_PHE": "phe", "PADLOCK_PMM": "pmm",
    "PADLOCK_RNG": "rng", "PADLOCK_UNDOC": "rng", "PKU": "ospke", "PREFETCHW": "3dnowprefetch",
    "SGX1": "sgx", "SHA": "sha_ni", "SKINIT_OR_SVM": "svm", "SSE3": "pni", "WIDE_KL": "keylocker",
}
# What every processor with 64-bit mode has, and the kernel does not list.
BASELINE = frozenset({
    "INTEL8086", "INTEL186", "INTEL286", "INTEL386", "INTEL486", "X64", "CPUID", "FPU287", "FPU387",
    "MULTIBYTENOP", "PAUSE", "RDPMC",
})
# fmt: on
PFX_F2, PFX_F3, PFX_LOCK = 0x04, 0x08, 0x10  # enum insn_prefix
EVEX_B = 0x10
LISTED = Path(__file__).with_name("undefined.txt")


@functools.cache
def listed() -> dict[str, str]:
    """undefined.txt: mnemonic or @extension → reason, where none of the features named there is on."""
    found = {}
    for line in LISTED.read_text().splitlines():
        if line and not line.startswith("#"):
            names, features, reason = (part.strip() for part in line.split("|"))
            if not processor.features().intersection(features.split()):
                found.update(dict.fromkeys(names.split(), reason))
    return found


def absent_features(instruction: Instruction) -> list[str]:
    """The extensions of `instruction` that the processor at hand does not tell of."""
    names = [FEATURE_NAMES[feature] for feature in instruction.cpuid_features()]
    kernel = ((name, KERNEL_NAMES.get(name, name.lower())) for name in names)
    return [name for name, flag in kernel if name not in BASELINE and flag not in processor.features()]


def reason(mnemonic: str, insn: np.void, code: bytes, zydis_length: int) -> str | None:
    """Why the processor raises #UD on `code`, or None: then our accepting it is a mistake.

    zydis_length: 0 where Zydis refuses it; ours where there is no Zydis to ask.
    """
    if mnemonic in listed():
        return f"{mnemonic}: {listed()[mnemonic]}"
    length = int(insn["length"])
    instruction = iced.decode(code, int(insn["bits"]))
    if mnemonic == "clzero" and "clzero" not in processor.features():
        return "no CLZERO"
    if instruction.is_invalid or mnemonic == "clzero":
        return generation(mnemonic, insn, code)
    if instruction.len != length:
        return None
    for name in absent_features(instruction):
        if zydis_length == length:
            return f"no {name}"
        if f"@{name}" in listed():
            return f"no {name}: {listed()[f'@{name}']}"
    return None


def generation(mnemonic: str, insn: np.void, code: bytes) -> str | None:
    """What one generation of a vendor's processors executes and another does not, field by field.

    Where it is a field of VEX or EVEX, the bytes must be good once the field is as the manual wants it.
    """
    if mnemonic == "verw" and insn["prefixes"] & PFX_LOCK:
        return "lock verw: executes at one time and raises #UD at another"
    if mnemonic == "clzero" and insn["prefixes"] & (PFX_F2 | PFX_F3):
        return "clzero under F2 or F3: Zen 4 ignores them"
    at = int(insn["prefix_len"])
    corrected = bytearray(code)
    if insn["encoding"] == ours.ENC_EVEX and insn["evex"] & EVEX_B and insn["modrm"] >= 0xC0:
        corrected[at + 3] &= ~EVEX_B
        said = "EVEX.b on a register form without rounding: Zen 4 ignores it"
    elif insn["encoding"] == ours.ENC_VEX and mnemonic.startswith("k"):
        corrected[at + 1] |= 0x80
        said = "VEX.R on a mask register: Zen 4 ignores it"
    else:
        return None
    instruction = iced.decode(bytes(corrected), int(insn["bits"]))
    return said if not instruction.is_invalid and instruction.len == insn["length"] else None
