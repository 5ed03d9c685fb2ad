"""Indirect jumps, and whether it is known where they lead.

An address to which a program jumps was made somewhere. If it was taken as it is (from memory, from an argument, by a
`lea` of a label), then what made it is marked as a target: the instruction, the relocation, the symbol. Only where the
program computes with it does more have to be known: with the distances of a jump table it leads where the table says;
anything else may lead anywhere in the function (an unrolled loop that is entered in its middle).
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from uprobe_core.x86.marks cimport text_t
from uprobe_core.x86.tables cimport units_t
from uprobe_core.x86.targets cimport image_t

cdef enum jump_verdict:
    JUMP_KNOWN
    JUMP_FROM_ENTRY  # it is in the register where the function begins: known if the function is called there
    JUMP_UNKNOWN

# The indirect jump at offset `at` of the text, in the function `unit`.
cdef int jump_judge(const text_t *text, const image_t *image, const units_t *units, size_t unit, size_t at,
                    uint32_t options) noexcept nogil

# Marks every instruction of the function `unit` as a target, but not those in the first bytes of what is called.
cdef void unit_open(const text_t *text, const units_t *units, size_t unit, uint32_t options) noexcept nogil
