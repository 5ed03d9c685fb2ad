"""Stopping and resuming tasks on purpose, and leaving a target."""

from posix.types cimport pid_t

from uprobe_core.trace.engine cimport engine_t, family_t

# Seizes every thread of the target; running threads do not notice. 0, or -errno of the first one that refused.
cdef int world_seize(engine_t *engine) noexcept nogil

# Stops every task at a point where no hit and no step is under way. `deadline_ms` bounds it (a vfork parent cannot be
# stopped before its child has executed or ended: it is in the kernel, and nowhere near a site). 0, or -errno.
cdef int world_stop(engine_t *engine, int deadline_ms) noexcept nogil
cdef int world_resume(engine_t *engine) noexcept nogil

# Frees the slots of removed sites in which no task stands, with the world stopped for a moment. The number, or -errno.
cdef int slots_reclaim(engine_t *engine, int deadline_ms) noexcept nogil

# world_stop and world_resume for one task. -ETIMEDOUT: it does not stop now.
cdef int task_halt(engine_t *engine, pid_t tid, int deadline_ms) noexcept nogil
cdef int task_release(engine_t *engine, pid_t tid) noexcept nogil

# Ends the calls whose time is up (see calls.pxd).
cdef void calls_serve(family_t *family) noexcept nogil

# Keeps a task that is about to report a stop of ours where it stands, until it is told to go on. Its stop is taken note of:
# one that is not would be reported again and again. 0 or -errno.
cdef int task_keep(engine_t *engine, pid_t tid) noexcept nogil

# Takes everything back and lets go of all tasks. The target runs on as if never traced. Arenas are unmapped, sealed ones
# emptied but for their first slot. last: the tracer ends next, which lets go of those that sleep.
cdef int engine_leave(engine_t *engine, bint last) noexcept nogil
