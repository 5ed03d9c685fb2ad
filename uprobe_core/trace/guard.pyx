"""The guard of a target: see guard.pxd."""

from libc.errno cimport EAGAIN
from libc.stdint cimport int64_t, uint64_t
from posix.mman cimport MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE
from posix.types cimport pid_t

from uprobe_core.abi cimport regs_t
from uprobe_core.linux.memory cimport memory_read
from uprobe_core.linux.ptrace cimport regs_get
from uprobe_core.linux.remote_call cimport remote_begin, remote_end, remote_syscall, remote_t
from uprobe_core.linux.sigframe cimport SIGFRAME_MAX
from uprobe_core.linux.wait cimport SIGTRAP
from uprobe_core.patch.traps cimport TRAP_BEFORE_OFF, traps_idle

cdef extern from "<sys/syscall.h>" nogil:
    const long SYS_mmap
    const long SYS_munmap
    const long SYS_rt_sigaction

cdef enum:
    PAGE = 4096
    RED_ZONE = 128
    ALIGN = 64
    SET_BYTES = 8
    ACTION_WORDS = 4  # of the kernel's struct sigaction

# ---- calls that heal

cdef bint stack_has_room(const engine_t *engine, uint64_t rsp) noexcept nogil:
    """Whether a frame can lie below rsp: in a stack that is known as one, and not in some heap that serves as one."""
    cdef size_t i
    for i in range(engine.stack_count):
        if engine.stacks[2 * i] + SIGFRAME_MAX + RED_ZONE + ALIGN <= rsp <= engine.stacks[2 * i + 1]:
            return True
    return False


cdef void gadget_choose(engine_t *engine, pid_t tid, uint64_t vaddr, gadget_t *gadget) noexcept nogil:
    cdef regs_t regs
    if vaddr == engine.gadget.vaddr:
        gadget[0] = engine.gadget
        return
    gadget.vaddr = vaddr
    gadget.frame_vaddr = gadget.restorer_vaddr = 0
    if engine.restorer_vaddr and regs_get(tid, &regs) == 0 and stack_has_room(engine, regs.rsp):
        gadget.restorer_vaddr = engine.restorer_vaddr


# ---- putting the disposition back

cdef int64_t call_make(remote_t *remote, long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d) noexcept nogil:
    cdef uint64_t arguments[6]
    cdef int64_t result = 0
    cdef int status
    arguments[0], arguments[1], arguments[2], arguments[3] = a, b, c, d
    arguments[4] = <uint64_t>-1
    arguments[5] = 0
    status = remote_syscall(remote, number, arguments, &result)
    return status if status < 0 else result


cdef int disposition_restore(engine_t *engine, remote_t *remote, int mem_fd) noexcept nogil:
    """The kernel tells the present one only by writing it to memory of the target's: a page that is mapped for that."""
    cdef uint64_t before_vaddr = engine.text.traps.page_vaddr + TRAP_BEFORE_OFF
    cdef uint64_t now[ACTION_WORDS]
    cdef const uint64_t *ours = engine.text.traps.data.ours
    cdef int64_t page = call_make(remote, SYS_mmap, 0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS)
    cdef int64_t result
    if -PAGE < page < 0:
        return <int>page
    result = call_make(remote, SYS_rt_sigaction, SIGTRAP, 0, page, SET_BYTES)
    if result == 0:
        result = memory_read(mem_fd, page, now, sizeof(now))
    # A trap that a thread blocks makes the kernel put the default handler, and nothing else, in place of ours.
    if result == 0 and (now[0] == ours[0] or (now[0] == 0 and now[1] == ours[1] and now[2] == ours[2])):
        result = call_make(remote, SYS_rt_sigaction, SIGTRAP, before_vaddr, 0, SET_BYTES)
    call_make(remote, SYS_munmap, page, PAGE, 0, 0)
    return <int>result


cdef int guard_leave(engine_t *engine, pid_t tid) noexcept nogil:
    cdef remote_t remote
    cdef int status, ended
    if engine.text.traps.page_vaddr == 0:
        return 0
    if engine.text.traps.installed:
        if tid == 0:
            return -EAGAIN
        status = remote_begin(&remote, engine.text.mem_fd, tid, &engine.gadget)
        if status == 0:
            status = disposition_restore(engine, &remote, engine.text.mem_fd)
            ended = remote_end(&remote, engine.pid)
            status = min(status, ended)
        if status < 0:
            return status
        engine.text.traps.installed = False
    return traps_idle(&engine.text.traps, engine.text.mem_fd)


cdef int guard_forsake(engine_t *engine, pid_t tid, int mem_fd) noexcept nogil:
    cdef remote_t remote
    cdef int status, ended
    if not engine.text.traps.installed:
        return 0
    status = remote_begin(&remote, mem_fd, tid, &engine.gadget)
    if status == 0:
        status = disposition_restore(engine, &remote, mem_fd)
        ended = remote_end(&remote, tid)
        status = min(status, ended)
    return status
