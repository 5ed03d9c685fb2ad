"""Tasks that turn up by themselves: new threads, and children that inherit the patched text."""

from posix.types cimport pid_t

from uprobe_core.trace.engine cimport engine_t

# A task that is not known yet stands at its first stop: a thread of the target is taken in; a process that shares its
# memory is kept until it executes or ends; one with a copy of the memory is cleaned of our patches and let go. 0 or -errno.
cdef int child_settle(engine_t *engine, pid_t tid) noexcept nogil
