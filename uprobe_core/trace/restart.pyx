"""Hits that come twice: see restart.pxd."""

from libc.stdint cimport uint32_t, uint64_t

from uprobe_core.abi cimport regs_t
from uprobe_core.linux.memory cimport memory_read
from uprobe_core.linux.ptrace cimport regs_get, siginfo_get, siginfo_t, task_cont, task_step
from uprobe_core.linux.wait cimport SIGTRAP
from uprobe_core.patch.sites cimport SITE_ARMED, SITE_CALLBACK, SITE_NONE, SITE_TAPPED, site_at, site_find
from uprobe_core.trace.tasks cimport TASK_REPLAY, TASK_RESTARTING

cdef enum:
    SYSCALL_SIZE = 2       # both syscall and int 0x80; the kernel restarts a call so far back
    # From rsp at a handler's start to the ip that it returns to: the restorer's address, then struct ucontext up to
    # uc_mcontext, then 16 registers (Linux arch/x86/include/asm/sigframe.h, uapi/asm/sigcontext.h).
    FRAME_IP = 8 + 40 + 16 * 8


cdef void hit_take_back(engine_t *engine, task_t *task, site_t *site, uint64_t rsp) noexcept nogil:
    if not site.state & SITE_ARMED:
        return  # it runs the original now, and this was its hit
    site.hits -= 1
    engine.replayed += 1
    task.taken_back += 1
    if site.state & (SITE_CALLBACK | SITE_TAPPED):
        task.flags |= TASK_REPLAY
        task.replay_ip = site.vaddr
        task.replay_rsp = rsp


cdef bint hit_is_replay(task_t *task, const site_t *site, uint64_t rsp) noexcept nogil:
    # A handler that runs meanwhile has hits of its own, perhaps here: its stack is another.
    if not task.flags & TASK_REPLAY or task.replay_ip != site.vaddr or task.replay_rsp != rsp:
        return False
    task.flags &= ~<uint32_t>TASK_REPLAY
    return True


cdef void restart_await(task_t *task, const site_t *site) noexcept nogil:
    if site.length != SYSCALL_SIZE or not site.state & SITE_ARMED:
        return  # the restart begins behind the prefixes, where no patch is
    task.flags |= TASK_RESTARTING
    task.restart_ip = site.vaddr


cdef int restart_deliver(task_t *task, int signal) noexcept nogil:
    # Stepped into a handler, a task stops before its first instruction, with the trap flag gone again (Linux
    # arch/x86/kernel/signal.c, handle_signal and signal_setup_done).
    return <int>(task_step(task.tid, signal) if task.flags & TASK_RESTARTING else task_cont(task.tid, signal))


cdef bint restart_is_frame(const task_t *task) noexcept nogil:
    cdef siginfo_t info
    # ptrace_notify(SIGTRAP) says SIGTRAP there; every other trap has a code of its own.
    return (task.flags & TASK_RESTARTING and siginfo_get(task.tid, &info) == 0 and info.si_signo == SIGTRAP
            and info.si_code == SIGTRAP)


cdef bint restart_settle(engine_t *engine, task_t *task) noexcept nogil:
    cdef bint is_frame = restart_is_frame(task)
    cdef uint32_t number = site_find(&engine.text.sites, task.restart_ip)
    cdef uint64_t rsp, ip = 0
    cdef regs_t regs
    task.flags &= ~<uint32_t>TASK_RESTARTING
    if number == SITE_NONE or regs_get(task.tid, &regs) < 0:
        return is_frame
    rsp = regs.rsp
    if not is_frame:
        ip = regs.rip - 1
    elif memory_read(engine.text.mem_fd, rsp + FRAME_IP, &ip, sizeof(ip)) == 0:
        memory_read(engine.text.mem_fd, rsp + FRAME_IP - sizeof(ip), &rsp, sizeof(rsp))
    if ip == task.restart_ip:
        hit_take_back(engine, task, site_at(&engine.text.sites, number), rsp)
    return is_frame
