"""Rings: see ring.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from uprobe_core.abi cimport (
    FIELD_STACK, HIT_FIELDS_MAX, RECORD_UNREAD, RING_HEADER, RING_STEP, RING_STEP_SHIFT, hitcode_t, record_t, regs_t,
    ring_t,
)
from uprobe_core.linux.clock cimport Clock, clock_convert, clock_read, clock_ticks, clock_tsc
from uprobe_core.x86.registers cimport regs_get

cdef extern from "trace/ring_words.h" nogil:
    uint64_t ring_word_load(const uint64_t *word)
    void ring_word_store(uint64_t *word, uint64_t value)

cdef enum:
    SLACK_NS = 1000000
    ORDER_MAX = 24


cdef inline const uint8_t *record_at(const source_t *source, uint64_t index, uint64_t mask, size_t size) noexcept nogil:
    return <const uint8_t *>source.ring + RING_HEADER + (index & mask) * size


cdef inline bint earlier(const source_t *sources, uint32_t a, uint32_t b) noexcept nogil:
    return sources[a].tsc < sources[b].tsc


cdef void heap_sink(uint32_t *heap, uint32_t count, uint32_t at, const source_t *sources) noexcept nogil:
    """Put the entry at `at` where it belongs among those below."""
    cdef uint32_t moved = heap[at]
    cdef uint32_t child = 2 * at + 1
    while child < count:
        if child + 1 < count and earlier(sources, heap[child + 1], heap[child]):
            child += 1
        if not earlier(sources, heap[child], moved):
            break
        heap[at] = heap[child]
        at = child
        child = 2 * at + 1
    heap[at] = moved


cdef inline void record_copy(const record_t *record, uint64_t tsc, columns_t *columns,
                             uint32_t field_count) noexcept nogil:
    cdef const uint64_t *fields = <const uint64_t *>(record + 1)
    cdef size_t at = columns.count
    cdef uint32_t i
    columns.times[at] = tsc
    columns.tids[at] = record.tid
    columns.sites[at] = record.site
    for i in range(field_count):
        columns.fields[i * columns.room + at] = fields[i]
    columns.count += 1


cdef class RingReader:
    """Reads the rings of a board.

    memory: the board, a writable buffer of `strides` strides; shift: log2 of a stride's bytes; offset: of the ring in its
    stride; order: log2 of a ring's records; fields: how many a record has. One thread at a time.
    """

    def __cinit__(self, memory, uint32_t strides, uint32_t shift, uint32_t offset, uint32_t order, uint32_t fields,
                  Clock clock not None):
        cdef uint8_t[::1] view = memory
        cdef uint64_t size
        cdef uint32_t i
        self.record_size = sizeof(record_t) + 8 * <size_t>fields
        size = offset + RING_HEADER + (self.record_size << order)
        if (order > ORDER_MAX or shift > 40 or fields > HIT_FIELDS_MAX or offset % 8 or strides == 0
                or size > <uint64_t>1 << shift or <uint64_t>view.shape[0] < <uint64_t>strides << shift):
            raise ValueError(f"{strides} rings of {1 << order} records with {fields} fields do not fit in {len(view)} bytes")
        self.memory = memory
        self.base = &view[0]
        self.strides = strides
        self.field_count = fields
        self.capacity = <uint64_t>1 << order
        self.mask = self.capacity - 1
        self.clock = clock
        self.slack_ticks = clock_ticks(&clock.anchors, SLACK_NS)
        self.sources = <source_t *>calloc(strides, sizeof(source_t))
        self.heap = <uint32_t *>calloc(strides, sizeof(uint32_t))
        if self.sources == NULL or self.heap == NULL:
            raise MemoryError(f"no memory for a reader of {strides} rings")
        for i in range(strides):
            self.sources[i].ring = <ring_t *>(self.base + (<uint64_t>i << shift) + offset)
            # What was read before us was given back by its reader.
            self.sources[i].tail = ring_word_load(&self.sources[i].ring.tail) >> RING_STEP_SHIFT

    def __dealloc__(self):
        free(self.sources)
        free(self.heap)

    cdef size_t fill(self, columns_t *columns, bint everything) noexcept nogil:
        """Records of all rings in order of time. Not everything: those of the last millisecond stay, since an earlier one
        may yet come from another processor."""
        cdef uint64_t oldest_end = clock_tsc()
        cdef uint64_t newest, available, limit
        cdef uint32_t active = 0
        cdef uint32_t i, number
        cdef source_t *source
        limit = ~<uint64_t>0 if everything else oldest_end - self.slack_ticks
        for i in range(self.strides):
            source = &self.sources[i]
            source.end = ring_word_load(&source.ring.head) >> RING_STEP_SHIFT
            source.next = source.tail
        newest = clock_tsc()
        clock_read(&self.clock.anchors)
        for i in range(self.strides):
            source = &self.sources[i]
            # Both wrap at 2**44.
            available = (source.end - source.tail) << RING_STEP_SHIFT >> RING_STEP_SHIFT
            if available > self.capacity:
                # No writer of ours leaves this: begin anew from what the ring says.
                self.damaged += 1
                source.tail = source.end
                source.next = source.end
                ring_word_store(&source.ring.tail, source.end << RING_STEP_SHIFT)
                continue
            source.end = source.tail + available
            if available and self.peek(source, newest) <= limit:
                self.heap[active] = i
                active += 1
        number = active // 2
        while number:
            number -= 1
            heap_sink(self.heap, active, number, self.sources)
        while active and columns.count < columns.room:
            source = &self.sources[self.heap[0]]
            active = self.take_run(source, columns, active, newest, limit)
        for i in range(self.strides):
            source = &self.sources[i]
            if source.next != source.tail:
                source.tail = source.next
                ring_word_store(&source.ring.tail, source.tail << RING_STEP_SHIFT)
        clock_convert(&self.clock.anchors, columns.times, columns.count)
        return columns.count

    cdef uint64_t peek(self, source_t *source, uint64_t newest) noexcept nogil:
        """The time of the ring's next record. One from the future was scrambled: it takes the place that it has."""
        cdef const record_t *record = <const record_t *>record_at(source, source.next, self.mask, self.record_size)
        cdef uint64_t tsc = ring_word_load(&record.tsc)
        if tsc > newest:
            self.damaged += 1
            tsc = source.last_tsc
        source.tsc = tsc
        return tsc

    cdef uint32_t take_run(self, source_t *source, columns_t *columns, uint32_t active, uint64_t newest,
                                  uint64_t limit) noexcept nogil:
        """Take records of the ring on top of the heap for as long as it has the earliest; how many rings are left."""
        cdef uint64_t until = limit
        cdef const record_t *record
        cdef uint32_t child
        for child in range(1, min(active, <uint32_t>3)):
            if self.sources[self.heap[child]].tsc < until:
                until = self.sources[self.heap[child]].tsc
        while source.tsc <= until and columns.count < columns.room:
            record = <const record_t *>record_at(source, source.next, self.mask, self.record_size)
            record_copy(record, source.tsc, columns, self.field_count)
            source.last_tsc = source.tsc
            source.next += 1
            if source.next == source.end:
                active -= 1
                self.heap[0] = self.heap[active]
                break
            if self.peek(source, newest) > limit:
                active -= 1
                self.heap[0] = self.heap[active]
                break
        if active:
            heap_sink(self.heap, active, 0, self.sources)
        return active

    def read(self, uint64_t[::1] times not None, uint32_t[::1] tids not None, uint32_t[::1] sites not None,
             uint64_t[::1] fields not None, bint everything=False):
        """Read records into columns, in order of time: CLOCK_MONOTONIC in nanoseconds, thread, site (with RECORD_UNREAD),
        and the fields, one after the other, each as long as `times`. How many.

        Unless `everything`, records of the last millisecond are left for the next time.
        """
        cdef columns_t columns
        cdef size_t count
        columns.room = times.shape[0]
        if (<size_t>tids.shape[0] < columns.room or <size_t>sites.shape[0] < columns.room
                or <size_t>fields.shape[0] < columns.room * self.field_count):
            raise ValueError(f"columns of {columns.room} records need {self.field_count} times as many fields")
        if columns.room == 0:
            return 0
        columns.times = &times[0]
        columns.tids = &tids[0]
        columns.sites = &sites[0]
        columns.fields = &fields[0] if fields.shape[0] else NULL
        columns.count = 0
        with nogil:
            count = self.fill(&columns, everything)
        return count

    @property
    def lost(self):
        """Hits that found their ring full, so far."""
        cdef uint64_t total = 0
        cdef uint32_t i
        for i in range(self.strides):
            total += ring_word_load(&self.sources[i].ring.lost)
        return total

    @property
    def waiting(self):
        """Records that are in the rings, at most."""
        cdef uint64_t total = 0
        cdef uint64_t available
        cdef uint32_t i
        for i in range(self.strides):
            available = (ring_word_load(&self.sources[i].ring.head) >> RING_STEP_SHIFT) - self.sources[i].tail
            total += min(available << RING_STEP_SHIFT >> RING_STEP_SHIFT, self.capacity)
        return total


cdef void ring_write(ring_t *ring, const hitcode_t *what, uint32_t site, uint32_t tid, const regs_t *regs,
                     const uint64_t *stack, uint32_t stack_words) noexcept nogil:
    cdef uint64_t head = ring.head
    cdef uint64_t phase = head & (RING_STEP - 1)
    cdef uint64_t capacity = <uint64_t>1 << what.order
    cdef size_t size = sizeof(record_t) + 8 * <size_t>what.field_count
    cdef record_t *record
    cdef uint64_t *fields
    cdef uint32_t i
    if phase:
        # Let go by: one in `every` is kept.
        ring_word_store(&ring.head, head + 1 if phase + 1 < what.every else head - phase)
        return
    if (head - ring_word_load(&ring.tail)) >> RING_STEP_SHIFT >= capacity:
        ring_word_store(&ring.lost, ring.lost + 1)
        return
    record = <record_t *>(<uint8_t *>ring + RING_HEADER + ((head >> RING_STEP_SHIFT) & (capacity - 1)) * size)
    fields = <uint64_t *>(record + 1)
    record.tsc = clock_tsc()
    record.tid = tid
    record.site = site
    for i in range(what.field_count):
        if what.fields[i].kind != FIELD_STACK:
            fields[i] = regs_get(regs, what.fields[i].number)
        elif what.fields[i].word < stack_words:
            fields[i] = stack[what.fields[i].word]
        else:
            fields[i] = 0
            record.site |= RECORD_UNREAD
    ring_word_store(&ring.head, head + RING_STEP + (1 if what.every > 1 else 0))
