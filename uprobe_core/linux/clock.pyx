"""The two clocks: see clock.pxd."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memmove

from time import sleep as _sleep

cdef enum:
    TRIES = 12
    FIRST_SPAN_MS = 2


cdef void anchor_read(anchor_t *anchor) noexcept nogil:
    """The reading of several that took least time: nobody came in between."""
    cdef uint64_t before, after, ns
    cdef uint64_t shortest = ~<uint64_t>0
    cdef int turn
    for turn in range(TRIES):
        before = clock_tsc()
        ns = clock_ns()
        after = clock_tsc()
        if after - before < shortest:
            shortest = after - before
            anchor.tsc = before + (after - before) // 2
            anchor.ns = ns


cdef void clock_read(clock_anchors_t *clock) noexcept nogil:
    cdef anchor_t now
    cdef anchor_t *last
    cdef uint32_t kept
    anchor_read(&now)
    if clock.count:
        last = &clock.anchors[clock.count - 1]
        if now.tsc <= last.tsc or now.ns <= last.ns:
            return
    if clock.count == ANCHORS_MAX:
        # Every other one of the older half goes: the last minutes stay fine, hours stay covered.
        kept = 0
        while kept < ANCHORS_MAX // 4:
            clock.anchors[kept] = clock.anchors[2 * kept]
            kept += 1
        memmove(&clock.anchors[kept], &clock.anchors[ANCHORS_MAX // 2], (ANCHORS_MAX // 2) * sizeof(anchor_t))
        clock.count = ANCHORS_MAX // 4 + ANCHORS_MAX // 2
    clock.anchors[clock.count] = now
    clock.count += 1


cdef uint64_t clock_span(const clock_anchors_t *clock, uint64_t ticks) noexcept nogil:
    cdef const anchor_t *first = &clock.anchors[0]
    cdef const anchor_t *last
    if clock.count < 2:
        return 0
    last = &clock.anchors[clock.count - 1]
    return <uint64_t>clock_scale(<int64_t>ticks, last.ns - first.ns, last.tsc - first.tsc)


cdef uint64_t clock_ticks(const clock_anchors_t *clock, uint64_t ns) noexcept nogil:
    cdef const anchor_t *first = &clock.anchors[0]
    cdef const anchor_t *last
    if clock.count < 2:
        return 0
    last = &clock.anchors[clock.count - 1]
    return <uint64_t>clock_scale(<int64_t>ns, last.tsc - first.tsc, last.ns - first.ns)


cdef void clock_convert(const clock_anchors_t *clock, uint64_t *times, size_t count) noexcept nogil:
    cdef uint32_t at = 0
    cdef uint32_t found = ANCHORS_MAX  # none yet
    cdef uint64_t fraction = 0
    cdef const anchor_t *from_anchor = NULL
    cdef const anchor_t *to_anchor = NULL
    cdef size_t i
    if clock.count < 2:
        return
    at = clock.count - 2
    for i in range(count):
        # The two readings around it; outside all of them, the nearest two.
        while at > 0 and times[i] < clock.anchors[at].tsc:
            at -= 1
        while at + 2 < clock.count and times[i] >= clock.anchors[at + 1].tsc:
            at += 1
        if at != found:
            found = at
            from_anchor = &clock.anchors[at]
            to_anchor = &clock.anchors[at + 1]
            fraction = <uint64_t>clock_scale(1 << 32, to_anchor.ns - from_anchor.ns, to_anchor.tsc - from_anchor.tsc)
        times[i] = from_anchor.ns + <uint64_t>clock_multiply(<int64_t>(times[i] - from_anchor.tsc), fraction)


cdef class Clock:
    """Reads both clocks at its making (which takes two milliseconds), and whenever `read` is called."""

    def __init__(self):
        clock_read(&self.anchors)
        _sleep(FIRST_SPAN_MS / 1000)
        while self.anchors.count < 2:
            clock_read(&self.anchors)

    def read(self):
        """Read both clocks once more."""
        clock_read(&self.anchors)

    def convert(self, uint64_t[::1] times not None):
        """Time stamps become nanoseconds of CLOCK_MONOTONIC, in place."""
        if times.shape[0]:
            clock_convert(&self.anchors, &times[0], times.shape[0])

    def span(self, uint64_t ticks):
        """Nanoseconds in so many ticks."""
        return clock_span(&self.anchors, ticks)

    def ticks(self, uint64_t ns):
        """Ticks in so many nanoseconds."""
        return clock_ticks(&self.anchors, ns)


def tsc():
    """The time stamp counter now."""
    return clock_tsc()
