"""Keeping the tracer on the processor of the task that it serves: a stop costs five times as much across two."""

from posix.types cimport pid_t

from uprobe_core.trace.engine cimport engine_t

# Moves the calling thread to the processor where `tid` last ran, where that is allowed, and sets when to look again.
cdef void follow_task(engine_t *engine, pid_t tid) noexcept nogil
