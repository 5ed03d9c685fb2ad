"""Interrupted system calls: see calls.pxd."""

from libc.errno cimport EINTR
from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.types cimport pid_t

from uprobe_core.abi cimport regs_t
from uprobe_core.linux.asleep cimport asleep_since, asleep_t, asleep_timeout, monotonic_ns, task_asleep
from uprobe_core.linux.doorbell cimport bell_set_alarm
from uprobe_core.linux.ptrace cimport (
    PTRACE_PEEKSIGINFO_SHARED, regs_get, regs_set, siginfo_peek, siginfo_t, sigmask_get,
)

cdef extern from "<sys/syscall.h>" nogil:
    const long SYS_close

cdef enum:
    PEEK_COUNT = 16
    SLACK_NS = 50000000  # a task that is resumed may be kept from its processor for so long before it sleeps again


cdef bint call_is_same(const task_t *task, long number, uint64_t now_ns, int64_t slept_ns) noexcept nogil:
    """Whether the task has slept since its call was put back: then it is still the same call."""
    return (task.call_due_ns != 0 and task.call_number == number and task.call_put_back_ns != 0
            and slept_ns + SLACK_NS >= <int64_t>(now_ns - task.call_put_back_ns))


cdef void call_note(engine_t *engine, task_t *task) noexcept nogil:
    cdef asleep_t asleep
    cdef int64_t timeout_ns, slept_ns, result
    cdef uint64_t now_ns
    if not task_asleep(task.tid, &asleep):
        task.call_due_ns = 0
        return
    timeout_ns = asleep_timeout(engine.pid, task.tid, &asleep, &result)
    if timeout_ns < 0:
        task.call_due_ns = 0
        return
    slept_ns = asleep_since(task.tid)
    now_ns = monotonic_ns()
    if call_is_same(task, asleep.number, now_ns, slept_ns):
        return
    # Where nobody can say how long it has slept, it sleeps for the whole time again.
    task.call_due_ns = 0 if slept_ns < 0 else now_ns + <uint64_t>max(timeout_ns - slept_ns, <int64_t>0)
    task.call_number = asleep.number
    task.call_result = result
    task.call_put_back_ns = 0


cdef bint call_is_due(const task_t *task, uint64_t now_ns) noexcept nogil:
    cdef asleep_t asleep
    if task.call_due_ns == 0 or task.call_put_back_ns == 0 or now_ns < task.call_due_ns:
        return False
    return task_asleep(task.tid, &asleep) and call_is_same(task, asleep.number, now_ns, asleep_since(task.tid))


cdef bint signal_waits(pid_t tid) noexcept nogil:
    """Whether a signal that the task does not block is about to be delivered to it."""
    cdef siginfo_t infos[PEEK_COUNT]
    cdef uint64_t mask
    cdef long i, count
    cdef unsigned int queue
    if sigmask_get(tid, &mask) < 0:
        return True
    for queue in range(2):
        count = siginfo_peek(tid, PTRACE_PEEKSIGINFO_SHARED if queue else 0, infos, PEEK_COUNT)
        for i in range(count):
            if not mask >> (infos[i].si_signo - 1) & 1:
                return True
    return False


cdef void call_put_back(engine_t *engine, task_t *task) noexcept nogil:
    cdef regs_t regs
    cdef uint64_t now_ns
    # What a handler interrupted has orig_rax -1 (sigreturn), so that this EINTR can only be ours. A closed descriptor
    # must not be closed again: its number may be another file's by now.
    if (regs_get(task.tid, &regs) < 0 or <int64_t>regs.rax != -EINTR or <int64_t>regs.orig_rax < 0
            or <long>regs.orig_rax == SYS_close or signal_waits(task.tid)):
        task.call_due_ns = 0
        return
    now_ns = monotonic_ns()
    if task.call_due_ns and <long>regs.orig_rax == task.call_number and now_ns >= task.call_due_ns:
        regs.rax = <uint64_t>task.call_result
        task.call_due_ns = 0
    else:
        regs.rip -= 2
        regs.rax = regs.orig_rax
        task.call_put_back_ns = now_ns
    regs.orig_rax = <uint64_t>-1
    regs_set(task.tid, &regs)
    if task.call_due_ns and (engine.family.alarm_ns == 0 or task.call_due_ns < engine.family.alarm_ns):
        engine.family.alarm_ns = task.call_due_ns
        bell_set_alarm(&engine.family.twin.bell, task.call_due_ns)


cdef void calls_set_alarm(family_t *family) noexcept nogil:
    cdef uint64_t next_ns = 0
    cdef uint32_t i
    cdef task_t *task
    cdef engine_t *engine = family.first
    while engine != NULL:
        for i in range(engine.tasks.mask + 1):
            task = &engine.tasks.table[i]
            if task.tid and task.call_due_ns and task.call_put_back_ns and (next_ns == 0 or task.call_due_ns < next_ns):
                next_ns = task.call_due_ns
        engine = engine.next
    if next_ns != family.alarm_ns:
        family.alarm_ns = next_ns
        bell_set_alarm(&family.twin.bell, next_ns)
