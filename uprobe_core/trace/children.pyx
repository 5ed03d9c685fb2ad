"""Children: see children.pxd."""

from libc.errno cimport ENOMEM, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport atoi
from libc.string cimport strstr
from posix.fcntl cimport O_CLOEXEC, O_RDONLY, O_RDWR, open
from posix.types cimport pid_t
from posix.unistd cimport close, read

from uprobe_core.linux.memory cimport memory_read, memory_write
from uprobe_core.linux.ptrace cimport ip_get, ip_set, syscall, task_cont, task_detach
from uprobe_core.patch.arenas cimport slot_at
from uprobe_core.patch.jumps cimport jumps_clean
from uprobe_core.patch.sites cimport SITE_ARMED, SLOT_NONE, site_at, site_t
from uprobe_core.trace.tasks cimport TASK_FOREIGN, task_add, task_t

cdef extern from "<sys/syscall.h>" nogil:
    const long SYS_kcmp

cdef extern from "<linux/kcmp.h>" nogil:
    const int KCMP_VM

cdef enum:
    BREAKPOINT = 0xcc


cdef pid_t task_group(pid_t tid) noexcept nogil:
    """The thread group of a task, or -1."""
    cdef char path[64]
    cdef char text[512]
    cdef char *at
    cdef ssize_t size
    snprintf(path, sizeof(path), b"/proc/%d/status", tid)
    cdef int fd = open(path, O_RDONLY | O_CLOEXEC)
    if fd < 0:
        return -1
    size = read(fd, text, sizeof(text) - 1)
    close(fd)
    text[size if size > 0 else 0] = 0
    at = strstr(text, b"\nTgid:")
    return -1 if at == NULL else atoi(at + 6)


cdef int child_open(pid_t tid) noexcept nogil:
    cdef char path[64]
    snprintf(path, sizeof(path), b"/proc/%d/mem", tid)
    cdef int fd = open(path, O_RDWR | O_CLOEXEC)
    return -errno if fd < 0 else fd


cdef int child_clean(engine_t *engine, pid_t tid) noexcept nogil:
    """Gives a child with a copy of the patched memory its own bytes back, and lets it go."""
    cdef site_t *site
    cdef uint32_t number
    cdef uint64_t ip
    cdef unsigned char there
    cdef int mem_fd = child_open(tid)
    if mem_fd < 0:
        return mem_fd
    # A fork that ran in a slot returns there in the child, too.
    if ip_get(tid, &ip) == 0 and slot_at(&engine.text.arenas, ip) != SLOT_NONE:
        for number in range(engine.text.sites.count):
            site = site_at(&engine.text.sites, number)
            if site.slot == slot_at(&engine.text.arenas, ip):
                ip_set(tid, site.vaddr + site.length)
                break
    for number in range(engine.text.sites.count):
        site = site_at(&engine.text.sites, number)
        if site.state & SITE_ARMED and memory_read(mem_fd, site.vaddr, &there, 1) == 0 and there == BREAKPOINT:
            memory_write(mem_fd, site.vaddr, site.original, 1)
    jumps_clean(&engine.text.jumps, mem_fd)
    close(mem_fd)
    return <int>task_detach(tid, 0)


cdef int child_settle(engine_t *engine, pid_t tid) noexcept nogil:
    cdef task_t *task
    cdef bint foreign = task_group(tid) != engine.pid
    if foreign and syscall(SYS_kcmp, <long>engine.pid, <long>tid, <long>KCMP_VM, <long>0, <long>0) != 0:
        return child_clean(engine, tid)
    task = task_add(&engine.tasks, tid)
    if task == NULL:
        return -ENOMEM
    if foreign:
        task.flags |= TASK_FOREIGN
    return <int>task_cont(tid, 0)
