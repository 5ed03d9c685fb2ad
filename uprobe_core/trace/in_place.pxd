"""Running a probed instruction where it is: the last resort, for a target in which no slot can be had."""

from uprobe_core.trace.engine cimport engine_t

# The task at the hit (engine.hit_tid, engine.hit_site) runs its instruction with the original byte put back, while all others
# stand still, so that none passes unseen. If it faults, its signal is delivered from the site.
# 0 or -errno.
cdef int step_in_place(engine_t *engine) noexcept nogil
