"""Hits that come twice: a task that is put in front of its site again, or whose system call the kernel restarts.

Each counts once. Whether an interrupted system call is restarted depends on the signal's handler (SA_RESTART) and on the
call, and shows only in the frame that the kernel makes for the handler: there, or at the site again, it is looked up.
"""

from libc.stdint cimport uint64_t

from uprobe_core.patch.sites cimport site_t
from uprobe_core.trace.engine cimport engine_t
from uprobe_core.trace.tasks cimport task_t

# The task, whose stack pointer is `rsp`, is in front of the site, and will hit it once more if it is armed: that hit is
# this one.
cdef void hit_take_back(engine_t *engine, task_t *task, site_t *site, uint64_t rsp) noexcept nogil

# Whether a hit with stack pointer `rsp` was reported before and taken back.
cdef bint hit_is_replay(task_t *task, const site_t *site, uint64_t rsp) noexcept nogil

# The task is behind the site's system call, which ended in an error that may mean a restart.
cdef void restart_await(task_t *task, const site_t *site) noexcept nogil

# Lets the task go on with a signal (0: none), to stop again where a restart shows. 0 or -errno.
cdef int restart_deliver(task_t *task, int signal) noexcept nogil

# Whether a SIGTRAP stop of the task is the one at a handler's first instruction, which restart_deliver asked for.
cdef bint restart_is_frame(const task_t *task) noexcept nogil

# At a SIGTRAP stop of such a task: the hit is taken back if it comes, or came, again. True: the stop was the handler's
# first instruction, and nothing else.
cdef bint restart_settle(engine_t *engine, task_t *task) noexcept nogil
