"""The processes of one tracer: see family_t."""

from posix.types cimport pid_t

from uprobe_core.trace.engine cimport engine_t, family_t

# engine.family takes the engine in, or forgets it.
cdef void family_join(engine_t *engine) noexcept nogil
cdef void family_leave(engine_t *engine) noexcept nogil

# The engine that has the task, or the process of that pid; NULL: nobody knows it yet.
cdef engine_t *family_find(family_t *family, pid_t tid) noexcept nogil

# The engine of process `pid`, or NULL.
cdef engine_t *family_member(family_t *family, pid_t pid) noexcept nogil
