"""iced-x86 over arrays of byte sequences, as on a processor of the vendor at hand without MPX."""

import numpy as np
import numpy.typing as npt
from iced_x86 import Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind

from tests.oracle import processor

# MPX is off unless asked for.
OPTIONS = DecoderOptions.AMD if processor.vendor() == "amd" else DecoderOptions.NONE
MNEMONICS = {value: name.lower() for name, value in vars(Mnemonic).items() if isinstance(value, int)}
NEAR = frozenset({OpKind.NEAR_BRANCH16, OpKind.NEAR_BRANCH32, OpKind.NEAR_BRANCH64})


def decode(code: bytes, bits: int = 64, ip: int = 0) -> Instruction:
    """The instruction at the start of `code`; its code is Code.INVALID where iced refuses it."""
    return Decoder(bits, code, OPTIONS, ip).decode()


def lengths(codes: npt.NDArray[np.uint8], bits: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The length of the instruction at the start of each 16-byte row; 0 where iced refuses it."""
    out = np.zeros(len(codes), np.uint8)
    for mode in (64, 32):
        rows = np.flatnonzero(bits == mode)
        decoder = Decoder(mode, codes[rows].tobytes(), OPTIONS)
        instruction = Instruction()
        for place, row in enumerate(rows):
            decoder.position = place * 16
            decoder.decode_out(instruction)
            if instruction.code != Code.INVALID:
                out[row] = instruction.len
    return out


def target(instruction: Instruction) -> int:
    """Where a direct near branch leads or a rip-relative operand lies; 0 where there is neither."""
    if instruction.is_ip_rel_memory_operand:
        return int(instruction.ip_rel_memory_address)
    if instruction.op_count and instruction.op0_kind in NEAR:
        return int(instruction.near_branch_target)
    return 0


def mnemonic(instruction: Instruction) -> str:
    """The mnemonic, in lower case."""
    return MNEMONICS[instruction.mnemonic]
