"""The Python face of sites that are served without a stop: see jumps.pyi for what Python sees."""

from uprobe_core.trace.tracer cimport Tracer

cdef class Jumps:
    cdef Tracer tracer
    cdef object board_memory   # keeps the mapping alive that the board points into

    # Runs a function in the tracer; `argument` is its order.
    cdef int call(self, int (*function)(void *) noexcept nogil, void *argument) except? -1
