"""Pairing: see pairing.pxd."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from uprobe_core.abi cimport RECORD_UNREAD, regs_t
from uprobe_core.x86.hitplan cimport HitPlan
from uprobe_core.x86.predicate cimport predicate_holds
from uprobe_core.x86.registers cimport regs_set

cdef enum:
    ROLE_NONE = 0xFFFFFFFF
    CALLS_FIRST = 1 << 10
    CALLS_MOST = 1 << 22  # 96 MB; more calls are never open at a time but by mistake

BUCKETS = HISTOGRAM_BUCKETS


def bucket_of(uint64_t value):
    """The bucket of a value."""
    return histogram_bucket(value)


def bucket_start(uint32_t bucket):
    """The least value of a bucket."""
    return histogram_start(bucket)


cdef inline uint64_t place_of(uint64_t frame, uint64_t mask) noexcept nogil:
    return (frame * <uint64_t>0x9E3779B97F4A7C15 >> 20) & mask


cdef class Pairing:
    """Turns records into times of functions.

    plan: of the records; its first field is the stack pointer, the others are the registers that its predicate wants,
    which is judged here, not in the target: an entry that does not count still shows that its frame is in use again.
    roles: by number of the site, 2 * function, + 1 for an exit; other sites have 0xffffffff. functions: how many.
    """

    def __cinit__(self, HitPlan plan not None, const uint32_t[::1] roles not None, uint32_t functions):
        cdef Py_ssize_t i
        self.plan = plan
        self.site_count = roles.shape[0]
        self.function_count = functions
        self.roles = <uint32_t *>malloc((self.site_count + 1) * sizeof(uint32_t))
        self.functions = <function_times_t *>calloc(functions + 1, sizeof(function_times_t))
        self.calls = <open_call_t *>calloc(CALLS_FIRST, sizeof(open_call_t))
        self.call_mask = CALLS_FIRST - 1
        if self.roles == NULL or self.functions == NULL or self.calls == NULL:
            raise MemoryError(f"no memory for {functions} functions")
        for i in range(roles.shape[0]):
            if roles[i] != ROLE_NONE and roles[i] >> 1 >= functions:
                raise ValueError(f"site {i}: function {roles[i] >> 1} of {functions}")
            self.roles[i] = roles[i]

    def __dealloc__(self):
        cdef uint32_t i
        if self.functions != NULL:
            for i in range(self.function_count):
                free(self.functions[i].buckets)
        free(self.roles)
        free(self.functions)
        free(self.calls)

    def feed(self, const uint64_t[::1] times not None, const uint32_t[::1] tids not None,
             const uint32_t[::1] sites not None, const uint64_t[::1] fields not None, size_t count):
        """Take `count` records in, in order of time; the columns as RingReader.read fills them."""
        cdef size_t room = times.shape[0]
        cdef size_t i
        cdef uint32_t site, role
        if (count > room or <size_t>tids.shape[0] < count or <size_t>sites.shape[0] < count
                or <size_t>fields.shape[0] < room * max(self.plan.code.field_count, 1)):
            raise ValueError(f"columns of {room} records cannot hold {count}")
        with nogil:
            for i in range(count):
                site = sites[i] & ~RECORD_UNREAD
                role = self.roles[site] if site < self.site_count else <uint32_t>ROLE_NONE
                if role == ROLE_NONE or fields[i] == 0:
                    continue
                if role & 1:
                    self.leave(fields[i], times[i], role >> 1)
                else:
                    self.enter(fields[i], times[i], role >> 1, self.holds(&fields[i], room, tids[i]))

    def forget(self):
        """Records were lost: no call that is open now can be trusted to be the one that its exit belongs to."""
        self.abandoned += self.call_count
        memset(self.calls, 0, (self.call_mask + 1) * sizeof(open_call_t))
        self.call_count = 0

    def times(self, uint32_t function):
        """(count, sum, least, most, buckets) of one function, in nanoseconds; buckets as {number: count}."""
        cdef function_times_t *found
        cdef uint32_t i
        if function >= self.function_count:
            raise IndexError(f"function {function} of {self.function_count}")
        found = &self.functions[function]
        buckets = {}
        if found.buckets != NULL:
            buckets = {i: found.buckets[i] for i in range(HISTOGRAM_BUCKETS) if found.buckets[i]}
        return found.count, found.sum, found.least, found.most, buckets

    @property
    def open(self):
        """Calls that were entered and not left."""
        return self.call_count

    cdef bint holds(self, const uint64_t *fields, size_t room, uint32_t tid) noexcept nogil:
        cdef regs_t regs
        cdef uint32_t i
        if self.plan.code.op_count == 0:
            return True
        memset(&regs, 0, sizeof(regs))
        for i in range(self.plan.code.field_count):
            regs_set(&regs, self.plan.code.fields[i].number, fields[i * room])
        return predicate_holds(&self.plan.code, &regs, NULL, tid)

    cdef void enter(self, uint64_t frame, uint64_t time, uint32_t function, bint counted) noexcept nogil:
        cdef open_call_t *call
        if 4 * self.call_count >= 3 * self.call_mask and not self.grow():
            self.abandoned += self.call_count
            memset(self.calls, 0, (self.call_mask + 1) * sizeof(open_call_t))
            self.call_count = 0
        call = self.find(frame)
        if call.frame:
            self.abandoned += 1
        else:
            self.call_count += 1
        call.frame = frame
        call.time = time
        call.function = function
        call.counted = counted

    cdef void leave(self, uint64_t frame, uint64_t time, uint32_t function) noexcept nogil:
        cdef open_call_t *call = self.find(frame)
        if call.frame == 0 or call.function != function:
            self.unpaired += 1
            return
        if call.counted and not self.add_time(function, time - call.time if time > call.time else 0):
            self.unpaired += 1
        self.remove(call)

    cdef bint add_time(self, uint32_t function, uint64_t ns) noexcept nogil:
        cdef function_times_t *times = &self.functions[function]
        if times.buckets == NULL:
            times.buckets = <uint64_t *>calloc(HISTOGRAM_BUCKETS, sizeof(uint64_t))
            if times.buckets == NULL:
                return False
            times.least = ns
        times.buckets[histogram_bucket(ns)] += 1
        times.count += 1
        times.sum += ns
        times.least = min(times.least, ns)
        times.most = max(times.most, ns)
        return True

    cdef open_call_t *find(self, uint64_t frame) noexcept nogil:
        """The place of a frame, or the empty one where it would go."""
        cdef uint64_t at = place_of(frame, self.call_mask)
        while self.calls[at].frame and self.calls[at].frame != frame:
            at = (at + 1) & self.call_mask
        return &self.calls[at]

    cdef void remove(self, open_call_t *call) noexcept nogil:
        """Take one out, and move up those that had to go further because of it."""
        cdef uint64_t gap = call - self.calls
        cdef uint64_t at = gap
        cdef uint64_t home
        self.call_count -= 1
        while True:
            self.calls[gap].frame = 0
            while True:
                at = (at + 1) & self.call_mask
                if self.calls[at].frame == 0:
                    return
                home = place_of(self.calls[at].frame, self.call_mask)
                if (at - home) & self.call_mask >= (at - gap) & self.call_mask:
                    break
            self.calls[gap] = self.calls[at]
            gap = at

    cdef bint grow(self) noexcept nogil:
        cdef open_call_t *old = self.calls
        cdef uint64_t old_size = self.call_mask + 1
        cdef uint64_t i
        cdef open_call_t *grown
        if old_size >= CALLS_MOST:
            return False
        grown = <open_call_t *>calloc(2 * old_size, sizeof(open_call_t))
        if grown == NULL:
            return False
        self.calls = grown
        self.call_mask = 2 * old_size - 1
        for i in range(old_size):
            if old[i].frame:
                self.find(old[i].frame)[0] = old[i]
        free(old)
        return True
