"""The face of taps in Python."""

from libc.stdint cimport uint32_t

from uprobe_core.trace.tracer cimport Tracer

cdef class Recorder:
    cdef Tracer tracer
    cdef list boards

    cdef int require(self, const uint32_t[::1] sites, uint32_t plan) except -1
