"""Entries and exits of functions become times.

An exit belongs to the entry that was recorded last at its frame: the address of the return address on the stack, which is
the same at a function's first instruction, at its returns and at its tail jumps, and which no two calls have at the same
time, in whatever thread. So recursion needs no counting; a call that was left by longjmp or an exception is forgotten
when its frame is used again; and a goroutine may change threads in between.
"""

from libc.stdint cimport uint32_t, uint64_t

from uprobe_core.abi cimport hitcode_t, regs_t
from uprobe_core.x86.hitplan cimport HitPlan

cdef extern from "trace/histogram.h" nogil:
    const unsigned int HISTOGRAM_BUCKETS
    uint32_t histogram_bucket(uint64_t value)
    uint64_t histogram_start(uint32_t bucket)

# An entry whose exit has not come.
ctypedef struct open_call_t:
    uint64_t frame     # 0: an empty place
    uint64_t time
    uint32_t function
    uint32_t counted   # the predicate held

ctypedef struct function_times_t:
    uint64_t *buckets  # NULL until there is one
    uint64_t count
    uint64_t sum
    uint64_t least
    uint64_t most

cdef class Pairing:
    cdef HitPlan plan
    cdef uint32_t *roles       # by site: function << 1 | exit, or ROLE_NONE
    cdef uint32_t site_count
    cdef function_times_t *functions
    cdef uint32_t function_count
    cdef open_call_t *calls    # open addressing, power of two
    cdef uint64_t call_mask
    cdef uint64_t call_count
    cdef readonly uint64_t unpaired    # exits without an entry
    cdef readonly uint64_t abandoned   # entries whose frame was used again without an exit

    cdef void enter(self, uint64_t frame, uint64_t time, uint32_t function, bint counted) noexcept nogil
    cdef void leave(self, uint64_t frame, uint64_t time, uint32_t function) noexcept nogil
    cdef bint add_time(self, uint32_t function, uint64_t ns) noexcept nogil
    cdef open_call_t *find(self, uint64_t frame) noexcept nogil
    cdef void remove(self, open_call_t *call) noexcept nogil
    cdef bint grow(self) noexcept nogil
    cdef bint holds(self, const uint64_t *fields, size_t room, uint32_t tid) noexcept nogil
