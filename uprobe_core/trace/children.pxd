"""Tasks that turn up by themselves: new threads, and children that inherit the patched text.

A parent is not resumed from the stop at its fork before the child has been settled, so that every child is met while
its parent is known.
"""

from posix.types cimport pid_t

from uprobe_core.linux.wait cimport stop_t
from uprobe_core.trace.engine cimport engine_t, family_t

# The task of `engine` is at the stop of a fork, vfork or clone: settles the new task, whose first stop is waited for.
# 0, LOOP_CHILD or -errno.
cdef int child_expect(engine_t *engine, pid_t parent_tid, int event) noexcept nogil

# A task that nobody knows stopped: it is settled, whoever its parent is.
cdef int child_meet(family_t *family, const stop_t *stop) noexcept nogil

# A task that shared the memory of the engine's process executes another program: it becomes a process of its own.
# LOOP_CHILD, or 0 where children are let go; or -errno.
cdef int child_execute(engine_t *engine, pid_t tid) noexcept nogil

# The engine, made for the child of LOOP_CHILD, takes it over: its one task is the child's, and its memory has the patches
# that its sites say. 0 or -errno.
cdef int child_adopt(engine_t *engine) noexcept nogil

# Children of the engine's process that nobody has settled yet are cleaned of our patches and let go.
cdef void children_give_up(engine_t *engine) noexcept nogil
