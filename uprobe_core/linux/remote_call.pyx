"""Remote system calls: see remote_call.pxd."""

from libc.errno cimport EPROTO, ESRCH
from libc.stdint cimport int64_t, uint64_t
from posix.types cimport pid_t

from uprobe_core.abi cimport regs_t
from uprobe_core.linux.memory cimport memory_write
from uprobe_core.linux.ptrace cimport (
    PTRACE_EVENT_STOP, regs_get, regs_set, sigmask_get, sigmask_set, syscall, task_cont, task_interrupt,
    task_to_syscall,
)
from uprobe_core.linux.sigframe cimport SIGFRAME_MAX, sigframe_make
from uprobe_core.linux.wait cimport (
    SIGTRAP, stop_event, stop_is_end, stop_signal, stop_t, stop_wait_task,
)

cdef extern from "<sys/syscall.h>" nogil:
    const long SYS_tgkill

# PTRACE_O_TRACESYSGOOD marks the stops at a system call's entry and exit.
cdef enum:
    SYSCALL_STOP = 0x80
    RED_ZONE = 128
    FRAME_ALIGN = 64


cdef int remote_wait(remote_t *remote, int resume_status, bint *at_syscall) noexcept nogil:
    """Waits for the next stop; a stop signal that arrives is held back, an event stop is passed over."""
    cdef stop_t stop
    cdef int status = stop_wait_task(remote.tid, &stop)
    if resume_status < 0:
        return resume_status
    if status < 0:
        return status
    if stop_is_end(&stop):
        return -ESRCH
    at_syscall[0] = stop.status == (SIGTRAP | SYSCALL_STOP)
    if not at_syscall[0] and stop_event(&stop) == 0:
        remote.deferred_stop = stop_signal(&stop)
    return 0


cdef int remote_to_syscall(remote_t *remote) noexcept nogil:
    cdef bint at_syscall = False
    cdef int status, rounds = 0
    while not at_syscall:
        rounds += 1
        if rounds > 64:
            return -EPROTO
        status = remote_wait(remote, <int>task_to_syscall(remote.tid, 0), &at_syscall)
        if status < 0:
            return status
    return 0


cdef int frame_put(remote_t *remote, int mem_fd) noexcept nogil:
    """Writes down in the target how the task goes on, should nobody else care for it."""
    cdef uint64_t vaddr = remote.gadget.frame_vaddr
    cdef long size
    if vaddr == 0:
        vaddr = (remote.saved.rsp - RED_ZONE - SIGFRAME_MAX) & ~<uint64_t>(FRAME_ALIGN - 1)
        remote.rsp = vaddr
    size = sigframe_make(remote.tid, &remote.saved, remote.mask, vaddr, remote.gadget.restorer_vaddr, remote.frame)
    return <int>size if size < 0 else memory_write(mem_fd, vaddr, remote.frame, size)


cdef int remote_begin(remote_t *remote, int mem_fd, pid_t tid, const gadget_t *gadget) noexcept nogil:
    cdef long status
    remote.tid = tid
    remote.gadget = gadget[0]
    remote.deferred_stop = 0
    remote.blocked = False
    status = regs_get(tid, &remote.saved)
    if status == 0:
        status = sigmask_get(tid, &remote.mask)
    remote.rsp = remote.saved.rsp
    if status == 0 and (gadget.frame_vaddr or gadget.restorer_vaddr):
        status = frame_put(remote, mem_fd)
    return <int>status


cdef int remote_syscall(remote_t *remote, long number, const uint64_t *arguments, int64_t *result) noexcept nogil:
    cdef uint64_t everything = ~<uint64_t>0
    cdef regs_t regs = remote.saved
    cdef int status
    # orig_rax >= 0 would make the kernel take the old call for a restart and move rip back by 2.
    regs.orig_rax = <uint64_t>-1
    regs.rax = <uint64_t>number
    regs.rdi = arguments[0]
    regs.rsi = arguments[1]
    regs.rdx = arguments[2]
    regs.r10 = arguments[3]
    regs.r8 = arguments[4]
    regs.r9 = arguments[5]
    regs.rip = remote.gadget.vaddr
    regs.rsp = remote.rsp
    status = <int>regs_set(remote.tid, &regs)
    if status == 0 and not remote.blocked:
        status = <int>sigmask_set(remote.tid, &everything)
        remote.blocked = status == 0
    if status == 0:
        status = remote_to_syscall(remote)
    if status == 0:
        status = remote_to_syscall(remote)
    if status == 0:
        status = <int>regs_get(remote.tid, &regs)
    if status == 0:
        result[0] = <int64_t>regs.rax
    return status


cdef int remote_end(remote_t *remote, pid_t pid) noexcept nogil:
    cdef stop_t stop
    cdef int status
    if remote.blocked and sigmask_set(remote.tid, &remote.mask) < 0:
        return -ESRCH
    if regs_set(remote.tid, &remote.saved) < 0:
        return -ESRCH
    # The kernel turns an interrupted call's -ERESTART* into a restart on its way through signal handling, which a
    # syscall-exit-stop does not pass; an interruption makes it pass there.
    status = <int>task_interrupt(remote.tid)
    if status == 0:
        status = <int>task_cont(remote.tid, 0)
    if status == 0:
        status = stop_wait_task(remote.tid, &stop)
    if status == 0 and stop_is_end(&stop):
        status = -ESRCH
    if remote.deferred_stop:
        syscall(SYS_tgkill, <long>pid, <long>remote.tid, <long>remote.deferred_stop)
    return status
