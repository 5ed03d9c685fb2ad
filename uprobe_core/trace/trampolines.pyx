"""Tasks in trampolines: see trampolines.pxd."""

from libc.errno cimport EBUSY, ESRCH
from libc.stdint cimport uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport strtoull
from libc.string cimport strstr
from posix.fcntl cimport O_CLOEXEC, O_RDONLY, open
from posix.types cimport pid_t
from posix.unistd cimport close, read

from uprobe_core.linux.ptrace cimport (
    breakpoint_set, ip_get, ip_set, siginfo_get, siginfo_set, siginfo_t, sigmask_get, sigmask_set, syscall, task_cont,
    task_step,
)
from uprobe_core.linux.wait cimport SIGTRAP, stop_event, stop_is_end, stop_signal, stop_t, stop_wait_task
from uprobe_core.patch.jump_areas cimport UNIT_FREE, UNIT_TAKEN, jump_owner_at
from uprobe_core.x86.trampoline cimport trampoline_insn, trampoline_t

cdef extern from "<sys/syscall.h>" nogil:
    const long SYS_tgkill

cdef enum:
    STEPS_MAX = 128   # of displaced instructions; a repeated string instruction takes one for each iteration


cdef inline const trampoline_t *trampoline_at(const engine_t *engine, uint64_t ip, uint32_t *number) noexcept nogil:
    number[0] = jump_owner_at(&engine.text.jumps.areas, ip)
    if number[0] == UNIT_FREE or number[0] == UNIT_TAKEN:
        return NULL
    return &engine.text.jumps.windows.trampolines[number[0]]


cdef bint in_trampoline(const engine_t *engine, uint64_t ip) noexcept nogil:
    cdef uint32_t number
    return trampoline_at(engine, ip, &number) != NULL


cdef uint64_t original_ip(const engine_t *engine, uint32_t number, int insn) noexcept nogil:
    """Where the instruction is in the text; 0: the window is gone."""
    cdef const trampoline_t *trampoline = &engine.text.jumps.windows.trampolines[number]
    return trampoline.window_vaddr + trampoline.insns[insn].offset


cdef int task_wait_trap(engine_t *engine, task_t *task, int *again) noexcept nogil:
    """The next stop must be a trap. A stop signal, which nothing blocks, is held back and sent again at the end."""
    cdef stop_t stop
    cdef int status = stop_wait_task(task.tid, &stop)
    if status < 0:
        return status
    if stop_is_end(&stop):
        return -ESRCH
    if stop.status == SIGTRAP:
        return 0
    if stop_event(&stop) == 0:
        again[0] = stop_signal(&stop)
    return -EBUSY


cdef int task_advance(engine_t *engine, task_t *task, uint64_t ip, int *again) noexcept nogil:
    """One displaced instruction, or the hit code to its end."""
    cdef uint32_t number
    cdef const trampoline_t *trampoline = trampoline_at(engine, ip, &number)
    cdef int insn = trampoline_insn(trampoline, ip)
    cdef int status
    if insn >= 0 and ip - trampoline.vaddr < trampoline.insns[insn].copy:
        status = <int>breakpoint_set(task.tid, trampoline.vaddr + trampoline.insns[insn].copy)
        if status == 0:
            status = <int>task_cont(task.tid, 0)
        if status == 0:
            status = task_wait_trap(engine, task, again)
        if status != -ESRCH:
            breakpoint_set(task.tid, 0)
        return status
    status = <int>task_step(task.tid, 0)
    return status if status < 0 else task_wait_trap(engine, task, again)


cdef int trampoline_finish(engine_t *engine, task_t *task, bint back) noexcept nogil:
    cdef uint64_t everything = ~<uint64_t>0
    cdef uint64_t mask, ip = 0
    cdef uint32_t number
    cdef const trampoline_t *trampoline
    cdef int insn, steps, again = 0
    cdef int status = <int>sigmask_get(task.tid, &mask)
    if status == 0:
        status = <int>sigmask_set(task.tid, &everything)
    if status < 0:
        return status
    for steps in range(STEPS_MAX + 1):
        status = <int>ip_get(task.tid, &ip)
        trampoline = trampoline_at(engine, ip, &number)
        if status < 0 or trampoline == NULL:
            break
        insn = trampoline_insn(trampoline, ip)
        if insn >= 0 and (back or insn == 0) and (
                ip == trampoline.vaddr + trampoline.insns[insn].hit
                or back and ip == trampoline.vaddr + trampoline.insns[insn].copy):
            status = <int>ip_set(task.tid, original_ip(engine, number, insn))
            break
        status = -EBUSY if steps == STEPS_MAX else task_advance(engine, task, ip, &again)
        if status < 0:
            break
    if status != -ESRCH:
        sigmask_set(task.tid, &mask)
        if again:
            syscall(SYS_tgkill, <long>engine.pid, <long>task.tid, <long>again)
    return status


cdef bint signal_is_caught(pid_t pid, int signal) noexcept nogil:
    """Whether the process has a handler for it."""
    cdef char path[64]
    cdef char text[4096]
    cdef char *at
    cdef ssize_t size
    snprintf(path, sizeof(path), b"/proc/%d/status", pid)
    cdef int fd = open(path, O_RDONLY | O_CLOEXEC)
    if fd < 0:
        return True
    size = read(fd, text, sizeof(text) - 1)
    close(fd)
    text[size if size > 0 else 0] = 0
    at = strstr(text, b"\nSigCgt:")
    return at == NULL or strtoull(at + 8, NULL, 16) >> (signal - 1) & 1


cdef int fault_move(engine_t *engine, task_t *task, int signal, uint64_t ip) noexcept nogil:
    """The displaced instruction at `ip` faulted: all registers are the original's."""
    cdef uint32_t number
    cdef const trampoline_t *trampoline = trampoline_at(engine, ip, &number)
    cdef int insn = trampoline_insn(trampoline, ip)
    cdef siginfo_t info
    cdef uint64_t original
    cdef int status
    if insn < 0 or ip != trampoline.vaddr + trampoline.insns[insn].copy:
        return 0
    if insn and signal_is_caught(engine.pid, signal):
        return 0  # the handler may return, and the rest of the window is a jump's
    original = original_ip(engine, number, insn)
    status = <int>ip_set(task.tid, original)
    if status == 0 and siginfo_get(task.tid, &info) == 0 and <uint64_t>info.si_addr == ip:
        info.si_addr = <void *>original
        status = <int>siginfo_set(task.tid, &info)
    return status


cdef int trampoline_signal(engine_t *engine, task_t *task, int signal, uint64_t ip, bint faulted) noexcept nogil:
    cdef siginfo_t info
    cdef int status
    if faulted:
        return fault_move(engine, task, signal, ip)
    status = <int>siginfo_get(task.tid, &info)
    if status == 0:
        status = trampoline_finish(engine, task, False)
    if status == -EBUSY:
        status = 0  # it is delivered where the task stands: a handler that returns leads it on
    if status == 0:
        status = <int>siginfo_set(task.tid, &info)
    return status
