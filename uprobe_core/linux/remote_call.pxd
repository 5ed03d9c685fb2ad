"""System calls made by a stopped task of the target, on our behalf.

    remote_begin → remote_syscall … → remote_end

Between begin and end the task's signals are blocked and its registers are ours; remote_end puts both back and leaves the
task in a PTRACE_EVENT_STOP, as it was before remote_begin.
"""

from libc.stdint cimport int64_t, uint64_t
from posix.types cimport pid_t

from uprobe_core.abi cimport regs_t

ctypedef struct remote_t:
    pid_t tid
    int deferred_stop  # a stop signal (it cannot be blocked) that came in between and is sent again at the end
    uint64_t gadget_vaddr # of a `syscall` instruction in the target
    uint64_t mask
    regs_t saved

# The task must be stopped, not at a signal delivery. 0, or -errno (-ESRCH: it died).
cdef int remote_begin(remote_t *remote, pid_t pid, pid_t tid, uint64_t gadget_vaddr) noexcept nogil

# `result` is what the kernel returned in rax: negative values are the call's -errno.
cdef int remote_syscall(remote_t *remote, long number, const uint64_t *arguments, int64_t *result) noexcept nogil

cdef int remote_end(remote_t *remote, pid_t pid) noexcept nogil
