"""The loop: see loop.pxd."""

from libc.errno cimport EINTR, ESRCH
from libc.stdint cimport uint32_t, uint64_t
from posix.types cimport pid_t

from uprobe_core.linux.doorbell cimport bell_reset
from uprobe_core.linux.memory cimport memory_read
from uprobe_core.linux.ptrace cimport (
    PTRACE_EVENT_CLONE, PTRACE_EVENT_EXEC, PTRACE_EVENT_FORK, PTRACE_EVENT_STOP, PTRACE_EVENT_VFORK, SI_KERNEL, ip_get,
    ip_set, siginfo_get, siginfo_set, siginfo_t, task_cont, task_interrupt, task_listen, task_step,
)
from uprobe_core.linux.twin cimport twin_host_is_gone
from uprobe_core.linux.wait cimport (
    CLD_EXITED, SIGSTOP, SIGTRAP, SIGTSTP, SIGTTIN, SIGTTOU, stop_consume, stop_event, stop_is_end, stop_signal, stop_t,
    stop_wait_any,
)
from uprobe_core.patch.arenas cimport slot_at
from uprobe_core.patch.sites cimport (
    SITE_ARMED, SITE_NONE, SLOT_NONE, site_at, site_find, site_forget, site_t,
)
from uprobe_core.trace.children cimport child_execute, child_expect, child_meet
from uprobe_core.trace.deferral cimport signal_can_wait, signal_catch_up, signal_give_back, signal_put_off
from uprobe_core.trace.engine cimport LOOP_AREA, LOOP_BELL, LOOP_CHILD, LOOP_ENDED, LOOP_EXEC, LOOP_NONE, LOOP_ORPHANED
from uprobe_core.trace.family cimport family_find
from uprobe_core.trace.follow cimport follow_task
from uprobe_core.trace.hit cimport hit_serve, slot_can_finish, slot_leave, step_abort, step_finish
from uprobe_core.trace.restart cimport restart_deliver, restart_is_frame, restart_settle
from uprobe_core.trace.tasks cimport (
    TASK_DEFERRING, TASK_FOREIGN, TASK_RESTARTING, TASK_STEPPING, task_find, task_remove, tasks_keep,
)

cdef extern from "<signal.h>" nogil:
    const int SIGILL
    const int SIGFPE
    const int SIGSEGV
    const int SIGBUS

cdef enum:
    BREAKPOINT = 0xcc


cdef int task_end(engine_t *engine, const stop_t *stop) noexcept nogil:
    """A task is gone. The target's last one takes the target with it."""
    cdef stop_t taken
    stop_consume(stop.tid, &taken)
    task_remove(&engine.tasks, stop.tid)
    if stop.tid != engine.pid:
        return LOOP_NONE
    # The leader's end is reported last, when all other threads are gone.
    engine.ended = True
    engine.exit_code = stop.status if stop.code == CLD_EXITED else 0
    engine.exit_signal = 0 if stop.code == CLD_EXITED else stop.status & 0x7f
    return LOOP_ENDED


cdef inline bint signal_stops(int signal) noexcept nogil:
    return signal == SIGSTOP or signal == SIGTSTP or signal == SIGTTIN or signal == SIGTTOU


cdef int task_exec(engine_t *engine, task_t *task) noexcept nogil:
    """The task runs another program; nothing of ours is in it."""
    cdef pid_t tid = task.tid
    cdef uint32_t number
    if task.flags & TASK_FOREIGN:
        return child_execute(engine, tid)
    for number in range(engine.text.sites.count):
        site_forget(site_at(&engine.text.sites, number))
        site_at(&engine.text.sites, number).slot = SLOT_NONE  # the arenas are gone with the rest
    # All other threads are gone, and the one that executed has the leader's tid now.
    tasks_keep(&engine.tasks, tid)
    return LOOP_EXEC


cdef bint signal_is_of_gap(engine_t *engine, pid_t tid, int signal, uint64_t ip) noexcept nogil:
    """Whether the task could not fetch an instruction of its slot: the target has unmapped or moved the arena."""
    cdef siginfo_t info
    return (signal == SIGSEGV and slot_at(&engine.text.arenas, ip) != SLOT_NONE and siginfo_get(tid, &info) == 0
            and info.si_code > 0 and <uint64_t>info.si_addr == ip)


cdef bint signal_is_fault(pid_t tid, int signal) noexcept nogil:
    """Whether the signal is what the instruction itself did, and not sent by anybody."""
    cdef siginfo_t info
    if not (signal == SIGILL or signal == SIGFPE or signal == SIGTRAP or signal == SIGSEGV or signal == SIGBUS):
        return False
    return siginfo_get(tid, &info) == 0 and info.si_code > 0


cdef int signal_deliver(engine_t *engine, task_t *task, int signal) noexcept nogil:
    """Passes a signal on. A handler, an unwinder or a core dump must not see a slot's address."""
    cdef siginfo_t info
    cdef uint64_t ip = 0
    cdef long status
    cdef bint gap, faulted
    if engine.text.arenas.count:
        status = ip_get(task.tid, &ip)
        gap = status == 0 and signal_is_of_gap(engine, task.tid, signal, ip)
        if status == 0 and slot_can_finish(engine, ip) and signal_can_wait(task, signal):
            return signal_put_off(engine, task, signal)
        signal_give_back(engine, task)
        faulted = not gap and signal_is_fault(task.tid, signal)
        if status == 0 and task.flags & TASK_STEPPING:
            status = step_abort(engine, task, faulted)
        elif status == 0 and slot_at(&engine.text.arenas, ip) != SLOT_NONE:
            status = slot_leave(engine, task, ip, faulted)
        if status < 0:
            return <int>status
        if gap:
            # The signal is our fault: it is dropped. Interrupted, the task stays in front of its site.
            task_interrupt(task.tid)
            status = task_cont(task.tid, 0)
            return <int>(status if status < 0 else LOOP_AREA)
        # SIGILL, SIGFPE and SIGTRAP report the instruction's address (SIGSEGV and SIGBUS the operand's, which may be
        # the instruction's own).
        if faulted:
            status = siginfo_get(task.tid, &info)
            if status == 0 and slot_at(&engine.text.arenas, <uint64_t>info.si_addr) != SLOT_NONE:
                status = ip_get(task.tid, &ip)
                info.si_addr = <void *>ip
                status = siginfo_set(task.tid, &info)
    return restart_deliver(task, signal)


cdef int trap_is_ours(engine_t *engine, task_t *task, uint64_t ip) noexcept nogil:
    """Whether a SIGTRAP at `ip` came from an int3 there once was: removed while the trap was under way."""
    cdef siginfo_t info
    cdef unsigned char there = 0
    if siginfo_get(task.tid, &info) < 0 or info.si_code != SI_KERNEL:
        return False
    if memory_read(engine.text.mem_fd, ip - 1, &there, 1) < 0:
        return False
    return there != BREAKPOINT


cdef int trap_serve(engine_t *engine, task_t *task) noexcept nogil:
    cdef uint64_t ip
    cdef uint32_t number
    cdef site_t *site
    cdef siginfo_t info
    cdef long status
    if task.flags & TASK_STEPPING:
        return step_finish(engine, task)
    if task.flags & TASK_RESTARTING and restart_settle(engine, task):
        return <int>task_cont(task.tid, 0)
    status = ip_get(task.tid, &ip)
    if status < 0:
        return <int>status
    if task.flags & TASK_DEFERRING:
        status = slot_leave(engine, task, ip, False)
        return <int>status if status < 0 else signal_catch_up(engine, task)
    number = site_find(&engine.text.sites, ip - 1)
    if number == SITE_NONE:
        return signal_deliver(engine, task, SIGTRAP)
    site = site_at(&engine.text.sites, number)
    if site.state & SITE_ARMED:
        # Only behind an instruction of one byte can a thread stand there without having trapped.
        if site.length == 1 and (siginfo_get(task.tid, &info) < 0 or info.si_code != SI_KERNEL):
            return signal_deliver(engine, task, SIGTRAP)
        engine.hit_site = number
        engine.hit_tid = task.tid
        return hit_serve(engine, task, site)
    if trap_is_ours(engine, task, ip):
        status = ip_set(task.tid, ip - 1)
        return <int>(status if status < 0 else task_cont(task.tid, 0))
    return signal_deliver(engine, task, SIGTRAP)


cdef inline int stop_pass(const task_t *task) noexcept nogil:
    """A stop that asks for nothing: the task goes on as before."""
    return <int>(task_step(task.tid, 0) if task.flags & (TASK_STEPPING | TASK_DEFERRING) else task_cont(task.tid, 0))


cdef int stop_serve(engine_t *engine, const stop_t *stop) noexcept nogil:
    cdef task_t *task = task_find(&engine.tasks, stop.tid)
    cdef int event = stop_event(stop)
    cdef int signal = stop_signal(stop)
    cdef int status
    if stop_is_end(stop):
        return task_end(engine, stop)
    if task == NULL:
        return LOOP_NONE
    elif event == PTRACE_EVENT_STOP and signal_stops(signal):
        status = <int>task_listen(stop.tid)
    elif event == PTRACE_EVENT_EXEC:
        return task_exec(engine, task)
    elif event == PTRACE_EVENT_FORK or event == PTRACE_EVENT_VFORK or event == PTRACE_EVENT_CLONE:
        status = child_expect(engine, stop.tid, event)
        if status == LOOP_CHILD:
            return status
        task = task_find(&engine.tasks, stop.tid)
        if status == 0 and task != NULL:
            status = stop_pass(task)
    elif event:
        # An interruption that came late.
        status = stop_pass(task)
    elif signal == SIGTRAP:
        engine.stops += 1
        engine.family.until_follow -= 1
        if engine.family.until_follow == 0:
            follow_task(engine, stop.tid)
        status = trap_serve(engine, task)
    else:
        status = signal_deliver(engine, task, signal)
    # A SIGKILL may end the task at any moment; its end is reported next.
    return LOOP_NONE if status == -ESRCH else status


cdef bint stop_is_hit_taken_back(engine_t *engine, const stop_t *stop) noexcept nogil:
    cdef task_t *task = task_find(&engine.tasks, stop.tid)
    cdef uint64_t ip
    cdef uint32_t number
    if stop.status != SIGTRAP or task == NULL or task.flags & TASK_STEPPING or restart_is_frame(task):
        return False
    if ip_get(stop.tid, &ip) < 0:
        return False
    number = site_find(&engine.text.sites, ip - 1)
    if number == SITE_NONE or not site_at(&engine.text.sites, number).state & SITE_ARMED:
        return False
    return ip_set(stop.tid, ip - 1) == 0


cdef int loop_run(family_t *family) noexcept nogil:
    cdef engine_t *engine
    cdef stop_t stop
    cdef int status
    while True:
        status = stop_wait_any(&stop)
        if twin_host_is_gone(&family.twin):
            return LOOP_ORPHANED
        if status == -EINTR:
            continue
        if status < 0:
            return status
        if stop.tid == family.twin.bell.pid:
            bell_reset(&family.twin.bell)
            return LOOP_BELL
        engine = family_find(family, stop.tid)
        if engine == NULL:
            status = child_meet(family, &stop)
        else:
            family.current = engine
            status = stop_serve(engine, &stop)
        if status != LOOP_NONE:
            return status
