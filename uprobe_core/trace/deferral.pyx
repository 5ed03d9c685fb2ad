"""Deferring signals: see deferral.pxd."""

from libc.stdint cimport uint32_t, uint64_t

from uprobe_core.linux.ptrace cimport (
    sigmask_get, sigmask_set, siginfo_get, siginfo_set, syscall, task_cont, task_step,
)
from uprobe_core.trace.tasks cimport TASK_DEFERRING

cdef extern from "<signal.h>" nogil:
    const int SIGILL
    const int SIGTRAP
    const int SIGBUS
    const int SIGFPE
    const int SIGSEGV
    const int SIGSYS
    const int SIGSTOP

cdef extern from "<sys/syscall.h>" nogil:
    const long SYS_tgkill

cdef enum:
    PATIENCE = 3  # times that one hit is taken back before its instruction is finished first


cdef inline uint64_t bit_of(int signal) noexcept nogil:
    return <uint64_t>1 << (signal - 1)


cdef inline uint64_t faults() noexcept nogil:
    return (bit_of(SIGSEGV) | bit_of(SIGBUS) | bit_of(SIGILL) | bit_of(SIGFPE) | bit_of(SIGTRAP) | bit_of(SIGSYS))


cdef bint signal_can_wait(const task_t *task, int signal) noexcept nogil:
    # Faults belong to the instruction itself, and SIGSTOP cannot be blocked.
    return task.taken_back >= PATIENCE and signal != SIGSTOP and not bit_of(signal) & faults()


cdef int signal_put_off(engine_t *engine, task_t *task, int signal) noexcept nogil:
    cdef uint64_t others
    cdef long status = siginfo_get(task.tid, &task.deferred_info)
    if status == 0:
        status = sigmask_get(task.tid, &task.mask)
    if status == 0:
        # The instruction may fault. A fault that is blocked ends the program, handler or not (Linux kernel/signal.c,
        # force_sig_info_to_task); so does the step's own trap.
        others = (~faults() | task.mask) & ~bit_of(SIGTRAP)
        status = sigmask_set(task.tid, &others)
    if status < 0:
        return <int>status
    task.deferred = signal
    task.flags |= TASK_DEFERRING
    return <int>task_step(task.tid, 0)


cdef int signal_catch_up(engine_t *engine, task_t *task) noexcept nogil:
    cdef long status = sigmask_set(task.tid, &task.mask)
    task.flags &= ~<uint32_t>TASK_DEFERRING
    task.taken_back = 0
    if status == 0:
        status = siginfo_set(task.tid, &task.deferred_info)
    return <int>(status if status < 0 else task_cont(task.tid, task.deferred))


cdef void signal_give_back(engine_t *engine, task_t *task) noexcept nogil:
    if task.flags & TASK_DEFERRING:
        task.flags &= ~<uint32_t>TASK_DEFERRING
        sigmask_set(task.tid, &task.mask)
        # The kernel lets nobody forge its own siginfo: the number is what can be given back.
        syscall(SYS_tgkill, <long>engine.pid, <long>task.tid, <long>task.deferred)
