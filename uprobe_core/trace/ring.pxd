"""Rings of a board: reading them all as one stream in order of time, and writing the tracer's own.

Whatever stands in the shared memory may have been scrambled by the target. The reader keeps its own count of what it has
read, takes no index or length from there unchecked, and does not wait for anything: the worst that comes of scrambled
memory is wrong records, counted as damaged where that can be told.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from uprobe_core.abi cimport hitcode_t, record_t, regs_t, ring_t
from uprobe_core.linux.clock cimport Clock

# One ring as its reader sees it.
ctypedef struct source_t:
    ring_t *ring
    uint64_t tail      # records read, ever
    # during one read
    uint64_t next
    uint64_t end
    uint64_t tsc       # of record `next`
    uint64_t last_tsc  # of the record before it

ctypedef struct columns_t:
    uint64_t *times
    uint32_t *tids
    uint32_t *sites
    uint64_t *fields  # field by field, `room` words each
    size_t room
    size_t count

cdef class RingReader:
    cdef object memory       # keeps the mapping
    cdef uint8_t *base
    cdef source_t *sources
    cdef uint32_t *heap
    cdef uint32_t strides
    cdef uint32_t field_count
    cdef uint64_t capacity
    cdef uint64_t mask
    cdef size_t record_size
    cdef uint64_t slack_ticks
    cdef readonly uint64_t damaged
    cdef readonly Clock clock

    cdef size_t fill(self, columns_t *columns, bint everything) noexcept nogil
    cdef uint64_t peek(self, source_t *source, uint64_t newest) noexcept nogil
    cdef uint32_t take_run(self, source_t *source, columns_t *columns, uint32_t active, uint64_t newest,
                           uint64_t limit) noexcept nogil

# Writes a record, if it is its turn, to a ring that nobody else writes to. stack: the first `stack_words` words from rsp on;
# a field beyond them is 0, and the record says so.
cdef void ring_write(ring_t *ring, const hitcode_t *what, uint32_t site, uint32_t tid, const regs_t *regs,
                     const uint64_t *stack, uint32_t stack_words) noexcept nogil
