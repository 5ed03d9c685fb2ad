"""A hit: counting it and getting the task past the probed instruction."""

from libc.stdint cimport uint64_t

from uprobe_core.abi cimport regs_t
from uprobe_core.patch.sites cimport site_t
from uprobe_core.trace.engine cimport engine_t
from uprobe_core.trace.tasks cimport task_t

# A task stands right after the int3 of `site`: counts, and either resumes it (LOOP_NONE) or leaves it for its callback
# (LOOP_HIT). Negative: -errno.
cdef int hit_serve(engine_t *engine, task_t *task, site_t *site) noexcept nogil

# Resumes a task that stands at a hit. regs: what its registers shall be, with rip at the site (NULL: as they are).
# LOOP_IN_PLACE: there is no slot, and the instruction cannot be emulated or would fault.
cdef int hit_resume(engine_t *engine, task_t *task, site_t *site, regs_t *regs) noexcept nogil

# The task's single step ended in a trap.
cdef int step_finish(engine_t *engine, task_t *task) noexcept nogil

# A signal came before the step: the task is at the site again, with the hit taken back. faulted: the signal is the
# instruction's own, so that the hit was one whether or not the handler goes back to it.
cdef int step_abort(engine_t *engine, task_t *task, bint faulted) noexcept nogil

# A task that stands in a slot for another reason than a step is moved to where it would be without us.
cdef int slot_leave(engine_t *engine, task_t *task, uint64_t ip, bint faulted) noexcept nogil

# Whether `ip` is in a slot whose instruction can be finished by a step while a signal waits.
cdef bint slot_can_finish(engine_t *engine, uint64_t ip) noexcept nogil
