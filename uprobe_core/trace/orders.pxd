"""What the tracer is told to do: functions that run in it (see linux/twin.pxd), each with its arguments in an order_t."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.types cimport pid_t

from uprobe_core.abi cimport regs_t
from uprobe_core.patch.text cimport image_t, insertion_t
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

# Each returns 0 or more, or -errno.
cdef int order_seize(void *argument) noexcept nogil
cdef int order_run(void *argument) noexcept nogil
cdef int order_resume(void *argument) noexcept nogil
cdef int order_insert(void *argument) noexcept nogil
cdef int order_rewrite(void *argument) noexcept nogil
cdef int order_arm(void *argument) noexcept nogil
cdef int order_disarm(void *argument) noexcept nogil
cdef int order_call(void *argument) noexcept nogil
cdef int order_reclaim(void *argument) noexcept nogil
cdef int order_stop(void *argument) noexcept nogil
cdef int order_go(void *argument) noexcept nogil
cdef int order_leave(void *argument) noexcept nogil
cdef int order_run_to(void *argument) noexcept nogil
cdef int order_set_off(void *argument) noexcept nogil
cdef int order_write(void *argument) noexcept nogil
cdef int order_adopt(void *argument) noexcept nogil
cdef int order_forget(void *argument) noexcept nogil

# What the tracer does by itself when the host has died; the argument is the family_t.
cdef int family_orphaned(void *argument) noexcept nogil
