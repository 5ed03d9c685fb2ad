"""The engine's Python face: see tracer.pyi for what Python sees."""

from libc.stdint cimport uint32_t, uint64_t

from uprobe_core.patch.text cimport slot_needs_t
from uprobe_core.trace.engine cimport engine_t, family_t
from uprobe_core.trace.orders cimport order_t

cdef class Tracer:
    cdef engine_t engine
    cdef family_t own_family  # of the target that was attached to; children use that of their root
    cdef readonly Tracer root
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
