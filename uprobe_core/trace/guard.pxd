"""What keeps a target alive when its tracer is killed: the journal, the handler of SIGTRAP, and calls that heal.

The handler stands before the first int3 does, and its table has a site before that is armed. See patch/trap_page.h.
"""

from libc.stdint cimport uint64_t
from posix.types cimport pid_t

from uprobe_core.linux.remote_call cimport gadget_t
from uprobe_core.trace.engine cimport engine_t

# How the halted task `tid` can make a system call at the gadget at `vaddr` so that it heals, if it can.
cdef void gadget_choose(engine_t *engine, pid_t tid, uint64_t vaddr, gadget_t *gadget) noexcept nogil

# Puts the disposition of SIGTRAP back, unless the target has changed it itself. All tasks that matter are held, and none
# is in a slot; `tid` is one of them that can make calls, 0: there is none. 0; -errno: nobody could be asked, and the
# handler stays (it does no harm).
cdef int guard_leave(engine_t *engine, pid_t tid) noexcept nogil

# A child that is let go, stopped and with its memory behind mem_fd, gets the disposition of SIGTRAP that its parent had
# before us. 0 or -errno.
cdef int guard_forsake(engine_t *engine, pid_t tid, int mem_fd) noexcept nogil
