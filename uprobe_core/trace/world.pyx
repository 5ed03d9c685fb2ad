"""Stopping tasks on purpose: see world.pxd."""

from libc.errno cimport ECHILD, ENOMEM, ESRCH, ETIMEDOUT
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport atoi, calloc, free
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, nanosleep, timespec
from posix.types cimport pid_t

from uprobe_core.abi cimport SLOT_SIZE
from uprobe_core.linux.asleep cimport asleep_copies, asleep_t, monotonic_ns, task_asleep
from uprobe_core.linux.memory cimport memory_write
from uprobe_core.linux.ptrace cimport (
    PTRACE_EVENT_STOP, PTRACE_O_TRACECLONE, PTRACE_O_TRACEEXEC, PTRACE_O_TRACEFORK, PTRACE_O_TRACESYSGOOD,
    PTRACE_O_TRACEVFORK, ip_get, siginfo_peek, siginfo_t, task_cont, task_detach, task_interrupt, task_listen, task_seize,
)
from uprobe_core.linux.remote_call cimport remote_begin, remote_end, remote_syscall, remote_t
from uprobe_core.linux.wait cimport SIGTRAP, stop_consume, stop_event, stop_is_end, stop_poll_task, stop_t, stop_wait_task
from uprobe_core.patch.arenas cimport slot_at
from uprobe_core.patch.sites cimport SITE_ARMED, SITE_NONE, SLOT_NONE, site_at, site_find
from uprobe_core.patch.text cimport text_disarm, text_reclaim
from uprobe_core.trace.calls cimport call_is_due, call_note, call_put_back, calls_set_alarm
from uprobe_core.trace.children cimport children_give_up
from uprobe_core.trace.deferral cimport signal_give_back
from uprobe_core.trace.engine cimport CHILDREN_CLEAN, LOOP_CHILD, LOOP_ENDED, LOOP_EXEC
from uprobe_core.trace.hit cimport slot_leave, step_abort
from uprobe_core.trace.loop cimport stop_is_hit_taken_back, stop_serve
from uprobe_core.trace.tasks cimport TASK_DEFERRING, TASK_HELD, TASK_KEPT, TASK_SPARED, TASK_STEPPING, task_add, task_find, task_t

cdef extern from "<dirent.h>" nogil:
    ctypedef struct DIR:
        pass
    ctypedef struct dirent_t "struct dirent":
        char *d_name
    DIR *opendir(const char *path)
    dirent_t *readdir(DIR *directory)
    int closedir(DIR *directory)

cdef extern from "<sys/syscall.h>" nogil:
    const long SYS_munmap

cdef enum:
    PEEK_COUNT = 16
    CALL_MS = 100
    LEAVE_MS = 5000
    FILL_BYTES = 4096
    BREAKPOINT = 0xcc


cdef inline unsigned long seize_options() noexcept nogil:
    return (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK
            | PTRACE_O_TRACEEXEC)


cdef int world_seize(engine_t *engine) noexcept nogil:
    """Threads may be born during a scan; those of a seized thread come by themselves, so scans converge."""
    cdef char path[64]
    cdef DIR *directory
    cdef dirent_t *entry
    cdef pid_t tid
    cdef long status
    cdef int refused = 0
    cdef bint found = True
    snprintf(path, sizeof(path), b"/proc/%d/task", engine.pid)
    while found:
        found = False
        directory = opendir(path)
        if directory == NULL:
            return -ESRCH
        while True:
            entry = readdir(directory)
            if entry == NULL:
                break
            tid = atoi(entry.d_name)
            if tid <= 0 or task_find(&engine.tasks, tid) != NULL:
                continue
            status = task_seize(tid, seize_options())
            if status == 0:
                if task_add(&engine.tasks, tid) == NULL:
                    refused = -ENOMEM
                found = True
            elif status != -ESRCH and refused == 0:
                # Also said of a thread that is dying, or that one of ours has just brought along.
                refused = <int>status
        closedir(directory)
    return 0 if engine.tasks.count else (refused if refused else -ESRCH)


cdef int64_t clock_ms() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1000 + now.tv_nsec // 1000000


cdef void pause_us(long us) noexcept nogil:
    cdef timespec span
    span.tv_sec = 0
    span.tv_nsec = us * 1000
    nanosleep(&span, NULL)


cdef bint trap_waits(engine_t *engine, const task_t *task) noexcept nogil:
    """Whether the task has run an int3 or a step of ours whose trap has not been reported yet: an interruption is
    reported before signals are (Linux kernel/signal.c, get_signal)."""
    cdef siginfo_t infos[PEEK_COUNT]
    cdef uint64_t ip
    cdef long i
    if not task.flags & (TASK_STEPPING | TASK_DEFERRING):
        if ip_get(task.tid, &ip) < 0 or site_find(&engine.text.sites, ip - 1) == SITE_NONE:
            return False
    for i in range(siginfo_peek(task.tid, 0, infos, PEEK_COUNT)):
        if infos[i].si_signo == SIGTRAP and infos[i].si_code > 0:
            return True
    return False


cdef int trap_let_out(engine_t *engine, pid_t tid) noexcept nogil:
    """Lets that trap be reported, serves it, and interrupts the task again."""
    cdef stop_t stop
    cdef int status = <int>task_cont(tid, 0)
    if status == 0:
        status = stop_wait_task(tid, &stop)
    if status == 0:
        status = min(settled_serve(engine, &stop), 0)
    return status if status < 0 else <int>task_interrupt(tid)


cdef int settled_serve(engine_t *engine, const stop_t *stop) noexcept nogil:
    """Serves a stop that is no interruption; a hit is put off until the task goes on."""
    cdef int status
    if stop_is_hit_taken_back(engine, stop):
        return <int>task_cont(stop.tid, 0)
    status = stop_serve(engine, stop)
    if status == LOOP_ENDED or status == LOOP_EXEC:
        return -ESRCH
    return status if status == LOOP_CHILD else min(status, 0)


cdef int task_settle(engine_t *engine, pid_t tid, bint *held) noexcept nogil:
    """Looks at one interrupted task. `held` says whether it stands still now; whatever else it was at is served."""
    cdef stop_t stop
    cdef task_t *task
    cdef int status = stop_poll_task(tid, &stop)
    held[0] = False
    if status == -ECHILD:
        return -ESRCH
    if status < 0 or stop.tid == 0:
        return status
    if not stop_is_end(&stop) and stop_event(&stop) == PTRACE_EVENT_STOP:
        task = task_find(&engine.tasks, tid)
        if task == NULL:
            return -ESRCH
        if trap_waits(engine, task):
            return trap_let_out(engine, tid)
        signal_give_back(engine, task)
        if task.flags & TASK_STEPPING:
            status = step_abort(engine, task, False)
            if status < 0:
                return status
        task.status = stop.status
        task.flags |= TASK_HELD
        held[0] = True
        call_put_back(engine, task)
        return 0
    status = settled_serve(engine, &stop)
    if status == LOOP_CHILD:
        # The child waits at its first stop for the loop. Its parent goes on to where it can be held: inside its fork no
        # system call could be made in it, whose result would be the fork's.
        return <int>task_cont(tid, 0)
    return status


cdef int task_keep(engine_t *engine, pid_t tid) noexcept nogil:
    cdef stop_t stop
    cdef task_t *task = task_find(&engine.tasks, tid)
    cdef int status = stop_wait_task(tid, &stop)
    if status == 0:
        status = stop_consume(tid, &stop)
    if status == 0 and task != NULL:
        task.flags |= TASK_KEPT
        task.status = stop.status
    return status


cdef bint task_is_kept(engine_t *engine, pid_t tid) noexcept nogil:
    """A kept task stands still already, and says so to nobody."""
    cdef task_t *task = task_find(&engine.tasks, tid)
    if task == NULL or not task.flags & TASK_KEPT:
        return False
    task.flags |= TASK_HELD
    return True


cdef int task_halt(engine_t *engine, pid_t tid, int deadline_ms) noexcept nogil:
    cdef int64_t until = clock_ms() + deadline_ms
    cdef long wait_us = 20
    cdef bint held = False
    cdef task_t *task
    cdef int status
    if task_is_kept(engine, tid):
        return 0
    task = task_find(&engine.tasks, tid)
    if task == NULL:
        return -ESRCH
    call_note(engine, task)
    status = <int>task_interrupt(tid)
    if status < 0:
        return status
    while True:
        status = task_settle(engine, tid, &held)
        if status < 0 or held:
            return status
        if clock_ms() > until:
            return -ETIMEDOUT
        pause_us(wait_us)
        wait_us = min(wait_us * 2, 1000)


cdef int task_release(engine_t *engine, pid_t tid) noexcept nogil:
    cdef stop_t stop
    cdef task_t *task = task_find(&engine.tasks, tid)
    if task == NULL or not task.flags & TASK_HELD:
        return 0
    task.flags &= ~<uint32_t>TASK_HELD
    if task.flags & TASK_KEPT:
        # After a remote call it stands at a new stop.
        return task_keep(engine, tid) if stop_poll_task(tid, &stop) == 0 and stop.tid else 0
    # A group stop goes on; it ends with SIGCONT as it would without us.
    if task.status & 0xff != SIGTRAP:
        return <int>task_listen(tid)
    return <int>task_cont(tid, 0)


cdef void calls_end(engine_t *engine, uint64_t now_ns) noexcept nogil:
    cdef uint32_t i
    cdef pid_t tid
    for i in range(engine.tasks.mask + 1):
        tid = engine.tasks.table[i].tid
        if not tid or engine.tasks.table[i].call_due_ns == 0 or engine.tasks.table[i].call_due_ns > now_ns:
            continue
        if not call_is_due(&engine.tasks.table[i], now_ns):
            engine.tasks.table[i].call_due_ns = 0
        elif task_halt(engine, tid, CALL_MS) == 0:
            task_release(engine, tid)


cdef void calls_serve(family_t *family) noexcept nogil:
    cdef uint64_t now_ns = monotonic_ns()
    cdef engine_t *engine = family.first
    if family.alarm_ns == 0 or now_ns < family.alarm_ns:
        return
    while engine != NULL:
        calls_end(engine, now_ns)
        engine = engine.next
    calls_set_alarm(family)


cdef int world_stop(engine_t *engine, int deadline_ms) noexcept nogil:
    cdef int64_t until = clock_ms() + deadline_ms
    cdef long wait_us = 20
    cdef uint32_t i, running
    cdef pid_t tid
    cdef bint held
    for i in range(engine.tasks.mask + 1):
        tid = engine.tasks.table[i].tid
        if tid and not task_is_kept(engine, tid) and not engine.tasks.table[i].flags & (TASK_HELD | TASK_SPARED):
            call_note(engine, &engine.tasks.table[i])
            task_interrupt(tid)
    while True:
        running = 0
        i = 0
        # The table may change under us: a settled task may bring a new one, or end.
        while i <= engine.tasks.mask:
            tid = engine.tasks.table[i].tid
            if tid and not engine.tasks.table[i].flags & (TASK_HELD | TASK_SPARED):
                if task_settle(engine, tid, &held) == 0 and not held:
                    running += 1
            i += 1
        if engine.ended or engine.tasks.count == 0:
            return -ESRCH
        if running == 0:
            return 0
        if clock_ms() > until:
            return -ETIMEDOUT
        pause_us(wait_us)
        wait_us = min(wait_us * 2, 1000)


cdef int world_resume(engine_t *engine) noexcept nogil:
    cdef uint32_t i
    for i in range(engine.tasks.mask + 1):
        if engine.tasks.table[i].tid and engine.tasks.table[i].flags & TASK_HELD:
            task_release(engine, engine.tasks.table[i].tid)
    return 0


cdef int slots_reclaim(engine_t *engine, int deadline_ms) noexcept nogil:
    cdef uint64_t *ips
    cdef uint32_t i
    cdef size_t count = 0
    cdef int status = world_stop(engine, deadline_ms)
    if status == 0:
        ips = <uint64_t *>calloc(engine.tasks.count + 1, sizeof(uint64_t))
        if ips == NULL:
            status = -ENOMEM
        else:
            for i in range(engine.tasks.mask + 1):
                if engine.tasks.table[i].tid and ip_get(engine.tasks.table[i].tid, &ips[count]) == 0:
                    count += 1
            status = <int>text_reclaim(&engine.text, ips, count)
            free(ips)
    world_resume(engine)
    return status


cdef void sites_disarm(engine_t *engine) noexcept nogil:
    cdef uint32_t numbers[512]
    cdef uint32_t number, count = 0
    cdef size_t done
    for number in range(engine.text.sites.count):
        if site_at(&engine.text.sites, number).state & SITE_ARMED:
            numbers[count] = number
            count += 1
        if count == 512 or number + 1 == engine.text.sites.count:
            text_disarm(&engine.text, numbers, count, &done)
            count = 0


cdef void tasks_clear(engine_t *engine) noexcept nogil:
    """No task stands in a slot any more."""
    cdef uint32_t i
    cdef uint64_t ip
    cdef pid_t tid
    for i in range(engine.tasks.mask + 1):
        tid = engine.tasks.table[i].tid
        if tid and ip_get(tid, &ip) == 0 and slot_at(&engine.text.arenas, ip) != SLOT_NONE:
            slot_leave(engine, &engine.tasks.table[i], ip, False)


cdef void arenas_empty(engine_t *engine) noexcept nogil:
    """Sealed arenas stay for the next attach: nothing but breakpoints in them."""
    cdef uint8_t filler[FILL_BYTES]
    cdef uint64_t vaddr, end
    cdef uint32_t i
    memset(filler, BREAKPOINT, FILL_BYTES)
    for i in range(engine.text.arenas.count):
        vaddr = engine.text.arenas.arenas[i].vaddr + SLOT_SIZE
        end = engine.text.arenas.arenas[i].vaddr + engine.text.arenas.arenas[i].size
        while engine.text.arenas.arenas[i].sealed and vaddr < end:
            memory_write(engine.text.mem_fd, vaddr, filler, min(<uint64_t>FILL_BYTES, end - vaddr))
            vaddr += FILL_BYTES


cdef void task_unspare(engine_t *engine) noexcept nogil:
    """Stops one of the sleeping tasks after all, if nobody else is there to be asked for a call."""
    cdef uint32_t i
    for i in range(engine.tasks.mask + 1):
        if engine.tasks.table[i].tid and engine.tasks.table[i].flags & TASK_HELD:
            return
    for i in range(engine.tasks.mask + 1):
        if engine.tasks.table[i].tid and engine.tasks.table[i].flags & TASK_SPARED:
            engine.tasks.table[i].flags &= ~<uint32_t>TASK_SPARED
            if task_halt(engine, engine.tasks.table[i].tid, LEAVE_MS) == 0:
                return


cdef void arenas_unmap(engine_t *engine) noexcept nogil:
    """Unmaps the arenas that are not sealed."""
    cdef remote_t remote
    cdef uint64_t arguments[6]
    cdef int64_t result
    cdef uint32_t i, arena
    cdef pid_t tid
    cdef bint any_open = False
    arguments[2] = arguments[3] = arguments[4] = arguments[5] = 0
    for arena in range(engine.text.arenas.count):
        any_open = any_open or not engine.text.arenas.arenas[arena].sealed
    if not any_open:
        return
    task_unspare(engine)
    for i in range(engine.tasks.mask + 1):
        tid = engine.tasks.table[i].tid
        # A task in a group stop would have to be woken for it.
        if not tid or not engine.tasks.table[i].flags & TASK_HELD or engine.tasks.table[i].status & 0xff != SIGTRAP:
            continue
        if remote_begin(&remote, engine.pid, tid, engine.unmap_gadget) < 0:
            continue
        for arena in range(engine.text.arenas.count):
            arguments[0] = engine.text.arenas.arenas[arena].vaddr
            arguments[1] = engine.text.arenas.arenas[arena].size
            if not engine.text.arenas.arenas[arena].sealed:
                remote_syscall(&remote, SYS_munmap, arguments, &result)
        remote_end(&remote, engine.pid)
        return


cdef void tasks_spare(engine_t *engine) noexcept nogil:
    """A task that sleeps in a call of its own is let go by the tracer's end, and never notices. No site is armed any more,
    so that it can wake when it likes. One that is making a copy of its memory has to be waited for: the copy may have our
    patches; and so has one that stands at a stop, which may be that of a fork."""
    cdef asleep_t asleep
    cdef stop_t stop
    cdef task_t *task
    cdef uint32_t i
    for i in range(engine.tasks.mask + 1):
        task = &engine.tasks.table[i]
        if (task.tid and not task.flags and task_asleep(task.tid, &asleep) and not asleep_copies(task.tid, &asleep)
                and slot_at(&engine.text.arenas, asleep.ip) == SLOT_NONE
                and stop_poll_task(task.tid, &stop) == 0 and stop.tid == 0):
            task.flags |= TASK_SPARED


cdef int engine_leave(engine_t *engine, bint last) noexcept nogil:
    cdef uint32_t i
    cdef int status
    if engine.ended:
        return 0
    engine.children = CHILDREN_CLEAN
    sites_disarm(engine)
    # A tracer in the host's own thread is still there when the host believes that it has left.
    if last and engine.family.twin.pid:
        tasks_spare(engine)
    status = world_stop(engine, LEAVE_MS)
    if engine.ended:
        return 0
    children_give_up(engine)
    tasks_clear(engine)
    if status == 0:
        arenas_empty(engine)
        if engine.unmap_gadget:
            arenas_unmap(engine)
    for i in range(engine.tasks.mask + 1):
        if engine.tasks.table[i].tid and not engine.tasks.table[i].flags & TASK_SPARED:
            task_detach(engine.tasks.table[i].tid, 0)
    return 0
