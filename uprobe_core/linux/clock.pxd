"""From time stamp counter to CLOCK_MONOTONIC.

The counter runs at a constant rate; CLOCK_MONOTONIC is disciplined (slewed by up to 500 ppm). So both are read together time
and again, and a time stamp is put between the two readings around it, in proportion: nothing is extrapolated over longer
than it takes to read once more, and an error does not grow with time.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "linux/clock.h" nogil:
    uint64_t clock_tsc()
    uint64_t clock_ns()
    int64_t clock_scale(int64_t value, uint64_t numerator, uint64_t denominator)
    int64_t clock_multiply(int64_t value, uint64_t fraction)

cdef enum:
    ANCHORS_MAX = 512

ctypedef struct anchor_t:
    uint64_t tsc
    uint64_t ns

ctypedef struct clock_anchors_t:
    uint32_t count
    anchor_t anchors[ANCHORS_MAX]  # in order of both

# Reads both clocks once more, as closely together as can be.
cdef void clock_read(clock_anchors_t *clock) noexcept nogil

# Nanoseconds in `ticks`, by all that was read.
cdef uint64_t clock_span(const clock_anchors_t *clock, uint64_t ticks) noexcept nogil

# Ticks in `ns`.
cdef uint64_t clock_ticks(const clock_anchors_t *clock, uint64_t ns) noexcept nogil

# Converts time stamps in place; quickest where they are in order.
cdef void clock_convert(const clock_anchors_t *clock, uint64_t *times, size_t count) noexcept nogil

cdef class Clock:
    cdef clock_anchors_t anchors
