"""The engine's Python face: see tracer.pyi for what Python sees."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.types cimport pid_t

from uprobe_core.abi cimport regs_t
from uprobe_core.patch.text cimport image_t, insertion_t, slot_needs_t
from uprobe_core.trace.engine cimport engine_t

# The arguments of one call into the tracer; the engine comes first so that all calls look alike.
ctypedef struct order_t:
    engine_t *engine
    insertion_t *insertions
    const uint32_t *sites
    size_t count
    size_t done
    int mode
    int strategy
    int near
    image_t image
    pid_t tid
    int deadline_ms
    uint64_t vaddr
    long number
    uint64_t arguments[6]
    int64_t result
    void *buffer
    regs_t *regs

cdef class Tracer:
    cdef engine_t engine
    cdef order_t order
    cdef bint started
    cdef bint was_lost
    cdef object journal  # kept alive as long as the engine writes to it

    cdef order_t *blank(self) noexcept

    # Runs a function in the tracer, with the blank order as its argument; its status, OSError where that is negative.
    cdef int call(self, int (*function)(void *) noexcept nogil) except? -1

    # The insertions of one batch, `order.count` of them from index `first` on; how many have no slot now, where `without`
    # had none before.
    cdef Py_ssize_t insert_batch(self, const uint64_t[::1] vaddrs, uint32_t[::1] numbers, uint32_t[::1] waiting,
                                 Py_ssize_t first, Py_ssize_t without, list refused, slot_needs_t *needs) except -1
    # The same with an argument of the caller's own.
    cdef int call_with(self, int (*function)(void *) noexcept nogil, void *argument) except? -1

    cdef object patch(self, const uint32_t[::1] sites, bint arm)
    cdef uint64_t arena_size(self, uint64_t vaddr)
