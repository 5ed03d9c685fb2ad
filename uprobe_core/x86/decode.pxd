"""Decode one x86 instruction as the processor does.

All functions are pure: no system call, no allocation, no Python, any thread. Nothing past `size` bytes is read.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from uprobe_core.abi cimport insn_t

cdef extern from "decode_options.h" nogil:
    # Bits of `options`: the vendor whose processor decides, the mode, and features that change decoding.
    const unsigned int DECODE_64
    const unsigned int DECODE_32
    const unsigned int DECODE_AMD
    const unsigned int DECODE_INTEL
    const unsigned int DECODE_APX

# Decodes the instruction at code[0:size], which lies at `ip`. Returns 0 (out is complete) or one of
# STATUS_EMPTY … STATUS_PREFIX; then out.length is the number of bytes that were looked at.
cdef int insn_decode(const uint8_t *code, size_t size, uint64_t ip, uint32_t options, insn_t *out) noexcept nogil

# The mnemonic, a string that lives as long as the module. Never NULL for a decoded instruction.
cdef const char *insn_mnemonic(const insn_t *insn) noexcept nogil
