"""What is known of a text, one bit a byte.

Pure: no system call, no allocation, no Python, any thread.
"""

from libc.stdint cimport uint8_t, uint64_t

# The executable part of a file, with the file's own addresses. Bit i of a map, the lowest of a byte first, speaks of
# code[i]. Each map has (size + 7) / 8 bytes.
ctypedef struct text_t:
    const uint8_t *code
    size_t size
    uint64_t vaddr
    uint8_t *insns    # an instruction begins there, as decoding from the start of a known function tells
    uint8_t *targets  # control may come there in another way than from the instruction before it
    uint8_t *entered  # of the targets: something calls it, or has its address
    uint8_t *jumps    # an indirect jump begins there
    uint8_t *opened   # an instruction of a function with a jump that may lead to any of them


cdef inline bint bit_test(const uint8_t *bits, size_t place) noexcept nogil:
    return bits[place >> 3] >> (place & 7) & 1


cdef inline void bit_set(uint8_t *bits, size_t place) noexcept nogil:
    bits[place >> 3] |= <uint8_t>(1 << (place & 7))


cdef inline void bit_clear(uint8_t *bits, size_t place) noexcept nogil:
    bits[place >> 3] &= <uint8_t>~(1 << (place & 7))


cdef inline bint bit_test_any(const uint8_t *bits, size_t first, size_t end) noexcept nogil:
    """Whether one of the bits from `first` to before `end` is set."""
    while first < end:
        if bit_test(bits, first):
            return True
        first += 1
    return False


cdef inline size_t bit_next(const uint8_t *bits, size_t first, size_t end) noexcept nogil:
    """The first set bit from `first` on; `end` if there is none before it."""
    while first < end:
        if not first & 7 and not bits[first >> 3]:
            first += 8
        elif bit_test(bits, first):
            return first
        else:
            first += 1
    return end
