"""The engine's Python face: see tracer.pyi for what Python sees."""

from libc.stdint cimport uint32_t, uint64_t

from uprobe_core.trace.engine cimport engine_t, family_t
from uprobe_core.trace.orders cimport order_t

cdef class Tracer:
    cdef engine_t engine
    cdef family_t own_family
    cdef readonly Tracer root  # whose family this is; keeps it alive
    cdef order_t order
    cdef bint started

    cdef order_t *blank(self) noexcept

    # Runs a function in the tracer, with the blank order as its argument; its status, OSError where that is negative.
    cdef int call(self, int (*function)(void *) noexcept nogil) except? -1

    cdef object patch(self, const uint32_t[::1] sites, bint arm)
    cdef uint64_t arena_size(self, uint64_t vaddr)
