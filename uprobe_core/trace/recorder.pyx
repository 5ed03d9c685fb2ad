"""Counting and recording on boards at stops, for Python: by the target's owner thread, while the tracer does not run."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from uprobe_core.patch.sites cimport SITE_TAPPED, site_at
from uprobe_core.trace.engine cimport engine_t
from uprobe_core.trace.taps cimport taps_plan, taps_tie, taps_untie
from uprobe_core.trace.tracer cimport Tracer
from uprobe_core.x86.hitplan cimport HitPlan


cdef class Recorder:
    """Ties sites of a tracer to plans."""

    def __init__(self, Tracer tracer not None):
        self.tracer = tracer
        self.boards = []

    def add(self, HitPlan plan not None, memory, uint32_t strides):
        """A plan on a board, a writable buffer of so many strides, the last of them the tracer's; its number. The plan may be
        used until the tracer's end, so the buffer is kept as long."""
        cdef uint8_t[::1] view = memory
        cdef long number
        if strides == 0 or <uint64_t>view.shape[0] < <uint64_t>strides << plan.code.shift:
            raise ValueError(f"{len(view)} bytes are no {strides} strides of {1 << plan.code.shift}")
        number = taps_plan(&self.tracer.engine.taps, &plan.code, &view[0], strides)
        if number < 0:
            raise MemoryError("no memory for a plan")
        self.boards.append(view)
        return number

    def tie(self, const uint32_t[::1] sites not None, uint32_t plan):
        """From now on hits of these sites do what the plan says too."""
        cdef engine_t *engine = &self.tracer.engine
        cdef Py_ssize_t i
        self.require(sites, plan)
        for i in range(sites.shape[0]):
            if taps_tie(&engine.taps, sites[i], plan) < 0:
                raise MemoryError(f"no memory for {sites.shape[0]} sites")
            site_at(&engine.text.sites, sites[i]).state |= SITE_TAPPED

    def untie(self, const uint32_t[::1] sites not None, uint32_t plan):
        """The opposite."""
        cdef engine_t *engine = &self.tracer.engine
        cdef Py_ssize_t i
        self.require(sites, plan)
        for i in range(sites.shape[0]):
            if taps_untie(&engine.taps, sites[i], plan) == 0:
                site_at(&engine.text.sites, sites[i]).state &= ~<uint64_t>SITE_TAPPED

    cdef int require(self, const uint32_t[::1] sites, uint32_t plan) except -1:
        cdef Py_ssize_t i
        if plan >= self.tracer.engine.taps.plan_count:
            raise ValueError(f"plan {plan}: there is none")
        for i in range(sites.shape[0]):
            if sites[i] >= self.tracer.engine.text.sites.count:
                raise ValueError(f"site {sites[i]}: there is none")
        return 0
