"""The loop: waits for stops and serves them until something needs the caller."""

from uprobe_core.linux.wait cimport stop_t
from uprobe_core.trace.engine cimport engine_t, family_t
from uprobe_core.trace.tasks cimport task_t

# Serves stops of all processes of the family until there is an event for the caller, in family.current: one of enum
# loop_event, or -errno.
cdef int loop_run(family_t *family) noexcept nogil

# Serves one stop: LOOP_NONE, or an event for the caller, or -errno.
cdef int stop_serve(engine_t *engine, const stop_t *stop) noexcept nogil

# Whether the stop is the trap of an armed site, which has not been counted yet; then `task` is moved back in front of
# the int3 and runs into it again when it is resumed.
cdef bint stop_is_hit_taken_back(engine_t *engine, const stop_t *stop) noexcept nogil
