"""System calls that a stop of ours ends with EINTR, though no signal came: they are made again, and end when they would
have ended.

    call_note → (the task is interrupted and stops) → call_put_back → … → calls_serve, when a time is up

The kernel restarts most calls by itself after a stop, with what is left of their time. signal(7) names those that it
does not. A call that is put back waits for its whole time-out again; so its end is noted before, and then it is
interrupted once more and returns what it would have returned.
"""

from libc.stdint cimport uint64_t

from uprobe_core.trace.engine cimport engine_t, family_t
from uprobe_core.trace.tasks cimport task_t

# Before a task is interrupted: notes when the call in which it sleeps is over.
cdef void call_note(engine_t *engine, task_t *task) noexcept nogil

# The task stands at an interruption of ours: a call that it ended is put back, or returns as at its time-out.
cdef void call_put_back(engine_t *engine, task_t *task) noexcept nogil

# Whether the time of the task's call is up while it still waits in it.
cdef bint call_is_due(const task_t *task, uint64_t now_ns) noexcept nogil

# The bell rings by itself when the next call is due.
cdef void calls_set_alarm(family_t *family) noexcept nogil
