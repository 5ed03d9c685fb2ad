"""What hit code in front of an instruction may change without anybody noticing.

Pure: no system call, no allocation, no Python, any thread.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t

ctypedef struct liveness_t:
    uint32_t dead_gprs     # bit n: register n (0 to 15, never rsp) is overwritten on every path before it is read
    uint32_t dead_flags    # EFLAGS bits of which the same holds; of the six of arithmetic
    uint8_t red_zone       # whether the 128 bytes below rsp may hold something

cdef enum:
    LIVENESS_FLAGS = 0x8D5  # CF PF AF ZF SF OF

# Of the place before the instruction at `ip`, in the function whose `size` bytes `code` lie at `vaddr`. entry: `ip` is
# where the function is called, not a part that the compiler moved away. Follows every path within the function, up to
# an effort; what is not known is alive.
cdef void liveness_at(const uint8_t *code, size_t size, uint64_t vaddr, uint32_t options, uint64_t ip, bint entry,
                      liveness_t *out) noexcept nogil
