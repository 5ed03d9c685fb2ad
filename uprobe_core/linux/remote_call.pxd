"""System calls made by a stopped task of the target, on our behalf.

    remote_begin → remote_syscall … → remote_end

Between begin and end the task's signals are blocked and its registers are ours; remote_end puts both back and leaves the
task in a PTRACE_EVENT_STOP, as it was before remote_begin.

A tracer may be killed at any point of this. So the task is sent to a *healing gadget*: `syscall`, then rt_sigreturn on a
frame that was made of the task's own state before anything was changed (see sigframe.pxd). Left alone at any moment, it
makes the call, and goes on where it was. The order of the steps matters: signals are blocked after the task stands at the
gadget and unblocked before it leaves it, so that it never runs on with a mask that is not its own.

Where there is no such gadget yet, and for the call that makes room for it, a gadget of the target's own text has to do:
`syscall; ret` with the frame on the task's stack, or a bare `syscall`, which does not heal.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from posix.types cimport pid_t

from uprobe_core.abi cimport regs_t
from uprobe_core.linux.sigframe cimport SIGFRAME_MAX

# Where a task can be sent.
ctypedef struct gadget_t:
    uint64_t vaddr           # of a `syscall`
    uint64_t frame_vaddr     # healing: what lies behind `syscall` runs rt_sigreturn on the frame at this address, a multiple
                             # of 64 with SIGFRAME_MAX bytes of ours; 0: it does not
    uint64_t restorer_vaddr  # with frame_vaddr 0: of code that makes rt_sigreturn; `syscall` is followed by `ret`, and the
                             # task's stack has room. 0: the call does not heal

ctypedef struct remote_t:
    pid_t tid
    int deferred_stop  # a stop signal (it cannot be blocked) that came in between and is sent again at the end
    gadget_t gadget
    uint64_t rsp       # during the calls
    bint blocked       # the task's signals are blocked by us
    uint64_t mask
    regs_t saved
    uint8_t frame[SIGFRAME_MAX]

# The task must be stopped, not at a signal delivery. mem_fd: the target's memory. Nothing of the task is changed.
# 0, or -errno (-ESRCH: it died).
cdef int remote_begin(remote_t *remote, int mem_fd, pid_t tid, const gadget_t *gadget) noexcept nogil

# `result` is what the kernel returned in rax: negative values are the call's -errno.
cdef int remote_syscall(remote_t *remote, long number, const uint64_t *arguments, int64_t *result) noexcept nogil

cdef int remote_end(remote_t *remote, pid_t pid) noexcept nogil
