"""Finishing an instruction before a signal is delivered.

A signal that arrives at the start of a slot is normally delivered with the thread back in front of its site, and the
hit comes again. Under a storm of signals that would go on for ever; after a few times the instruction is stepped first,
with all signals blocked, and the signal is delivered from the step's own stop, with its own siginfo.
"""

from uprobe_core.trace.engine cimport engine_t
from uprobe_core.trace.tasks cimport task_t

# Whether `signal`, which is about to be delivered to a task in a slot, should wait for the instruction.
cdef bint signal_can_wait(const task_t *task, int signal) noexcept nogil

# Puts the signal off and steps the task. 0 or -errno.
cdef int signal_put_off(engine_t *engine, task_t *task, int signal) noexcept nogil

# The step is done and the task is out of the slot: delivers the signal.
cdef int signal_catch_up(engine_t *engine, task_t *task) noexcept nogil

# The instruction could not be finished: the signal is sent again, the mask put back. The task stays stopped.
cdef void signal_give_back(engine_t *engine, task_t *task) noexcept nogil
