"""Tasks in trampolines: getting one out, and what a signal does to it.

Hit code may be a restartable sequence, which a single step would restart for ever: there the task runs on its own, up to
a debug register. Displaced instructions are stepped.
"""

from libc.stdint cimport uint32_t, uint64_t

from uprobe_core.trace.engine cimport engine_t
from uprobe_core.trace.tasks cimport task_t

# Whether `ip` is in a trampoline.
cdef bint in_trampoline(const engine_t *engine, uint64_t ip) noexcept nogil

# The stopped task runs on, with all signals blocked, until it is out of the trampoline, or (back True: the text is the
# original) stands where the original instruction can be run instead, and goes there. 0; -EBUSY: it does not get out,
# and stays where it is; or -errno.
cdef int trampoline_finish(engine_t *engine, task_t *task, bint back) noexcept nogil

# A signal is about to be delivered to a task in a trampoline. faulted: it is its instruction's own. Moves the task to the
# same moment in the original code where it can be done. 0 or -errno.
cdef int trampoline_signal(engine_t *engine, task_t *task, int signal, uint64_t ip, bint faulted) noexcept nogil
