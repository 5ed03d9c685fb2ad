"""Our decoder over arrays of byte sequences: for tests only, compiled at test time.

insn_t and effects_t come back as raw bytes; records.py has the numpy dtypes.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from uprobe_core.abi cimport effects_t, insn_t
from uprobe_core.x86.decode cimport (
    DECODE_32, DECODE_64, DECODE_AMD, DECODE_APX, DECODE_INTEL, insn_decode, insn_mnemonic,
)
from uprobe_core.x86.effects cimport insn_effects

AMD, INTEL, APX, BITS_64, BITS_32 = DECODE_AMD, DECODE_INTEL, DECODE_APX, DECODE_64, DECODE_32


@cython.boundscheck(False)
def decode(const uint8_t[:, ::1] codes, const uint8_t[::1] bits, uint32_t options, size_t size, unsigned long long ip,
           uint8_t[::1] status, uint8_t[:, ::1] insns, uint8_t[:, ::1] effects):
    """Decode codes[i][0:size] at `ip` for every i, into status[i], insns[i] and effects[i]."""
    cdef Py_ssize_t i
    cdef insn_t insn
    cdef effects_t effect
    if codes.shape[1] < <Py_ssize_t>size or insns.shape[1] != sizeof(insn_t) or effects.shape[1] != sizeof(effects_t):
        raise ValueError("rows of the wrong size")
    if not (codes.shape[0] == bits.shape[0] == status.shape[0] == insns.shape[0] == effects.shape[0]):
        raise ValueError("arrays of different lengths")
    with nogil:
        for i in range(codes.shape[0]):
            memset(&insn, 0, sizeof(insn))
            memset(&effect, 0, sizeof(effect))
            status[i] = <uint8_t>insn_decode(
                &codes[i, 0], size, ip, options | (DECODE_64 if bits[i] == 64 else DECODE_32), &insn)
            if status[i] == 0:
                insn_effects(&insn, &effect)
            memcpy(&insns[i, 0], &insn, sizeof(insn))
            memcpy(&effects[i, 0], &effect, sizeof(effect))


def decode_exact(const uint8_t[:, ::1] codes, const uint8_t[::1] sizes, uint32_t options):
    """Decode the first sizes[i] bytes of every row from a heap block of exactly that size; how many were used.

    Under AddressSanitizer a read past the given bytes ends the process.
    """
    cdef Py_ssize_t i
    cdef insn_t insn
    cdef effects_t effect
    cdef uint8_t *block
    cdef size_t size
    cdef unsigned long long total = 0
    for i in range(codes.shape[0]):
        size = sizes[i]
        block = <uint8_t *>malloc(size)
        if block == NULL and size:
            raise MemoryError
        memcpy(block, &codes[i, 0], size)
        if insn_decode(block, size, 0x1000, options, &insn) == 0:
            insn_effects(&insn, &effect)
            assert insn_mnemonic(&insn)[0] != 0
            total += insn.length
        free(block)
    return total


def mnemonic(const uint8_t[::1] record):
    """The mnemonic of one insn_t that `decode` filled."""
    cdef insn_t insn
    if record.shape[0] != sizeof(insn_t):
        raise ValueError("not an insn_t")
    memcpy(&insn, &record[0], sizeof(insn))
    return insn_mnemonic(&insn).decode()


def read_past_the_end():
    """Decode two bytes of a block of one: for the test that a sanitized build notices."""
    cdef insn_t insn
    cdef uint8_t *block = <uint8_t *>malloc(1)
    block[0] = 0x0F
    insn_decode(block, 2, 0x1000, DECODE_64 | DECODE_AMD, &insn)
    free(block)
