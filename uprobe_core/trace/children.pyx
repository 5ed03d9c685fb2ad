"""Children: see children.pxd."""

from libc.errno cimport ECHILD, ENOMEM, ESRCH, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport atoi
from libc.string cimport memset, strstr
from posix.fcntl cimport O_CLOEXEC, O_RDONLY, O_RDWR, open
from posix.types cimport pid_t
from posix.unistd cimport close, read

from uprobe_core.abi cimport SLOT_SIZE
from uprobe_core.linux.memory cimport memory_write
from uprobe_core.linux.ptrace cimport (
    PTRACE_EVENT_VFORK, event_message, ip_get, ip_set, syscall, task_cont, task_detach,
)
from uprobe_core.linux.wait cimport stop_consume, stop_is_end, stop_t, stop_wait_task
from uprobe_core.patch.arenas cimport slot_at
from uprobe_core.patch.copies cimport text_match
from uprobe_core.patch.sites cimport SLOT_NONE, site_at, site_t
from uprobe_core.patch.text cimport text_rewrite
from uprobe_core.trace.engine cimport CHILDREN_FOLLOW, LOOP_CHILD, LOOP_NONE
from uprobe_core.trace.family cimport family_find, family_join, family_member
from uprobe_core.trace.tasks cimport TASK_FOREIGN, task_add, task_find, task_remove, task_t

cdef extern from "<sys/syscall.h>" nogil:
    const long SYS_kcmp

cdef extern from "<linux/kcmp.h>" nogil:
    const int KCMP_VM

cdef enum:
    BREAKPOINT = 0xcc
    FILL_BYTES = 4096


cdef pid_t task_relation(pid_t tid, const char *name) noexcept nogil:
    """A pid in the task's status: of its thread group (Tgid), or of its parent (PPid); -1: it is gone."""
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
    at = strstr(text, name)
    return -1 if at == NULL else atoi(strstr(at, b":") + 1)


cdef int child_open(pid_t tid) noexcept nogil:
    cdef char path[64]
    snprintf(path, sizeof(path), b"/proc/%d/mem", tid)
    cdef int fd = open(path, O_RDWR | O_CLOEXEC)
    return -errno if fd < 0 else fd


cdef void slot_forsake(const engine_t *engine, pid_t tid) noexcept nogil:
    """A fork that ran in a slot returns there in the child, too: it goes on behind the site."""
    cdef site_t *site
    cdef uint32_t number
    cdef uint64_t ip
    if ip_get(tid, &ip) < 0 or slot_at(&engine.text.arenas, ip) == SLOT_NONE:
        return
    for number in range(engine.text.sites.count):
        site = site_at(&engine.text.sites, number)
        if site.slot == slot_at(&engine.text.arenas, ip):
            ip_set(tid, site.vaddr + site.length)
            return


cdef void slots_blank(const engine_t *engine, int mem_fd) noexcept nogil:
    """Nothing but breakpoints in the child's copies of the arenas."""
    cdef uint8_t filler[FILL_BYTES]
    cdef uint64_t vaddr, end
    cdef uint32_t i
    memset(filler, BREAKPOINT, FILL_BYTES)
    for i in range(engine.text.arenas.count):
        vaddr = engine.text.arenas.arenas[i].vaddr + SLOT_SIZE
        end = engine.text.arenas.arenas[i].vaddr + engine.text.arenas.arenas[i].size
        while vaddr < end:
            memory_write(mem_fd, vaddr, filler, min(<uint64_t>FILL_BYTES, end - vaddr))
            vaddr += FILL_BYTES


cdef int child_clean(engine_t *engine, pid_t tid) noexcept nogil:
    cdef int mem_fd = child_open(tid)
    if mem_fd < 0:
        return mem_fd
    slot_forsake(engine, tid)
    text_match(&engine.text, mem_fd, False)
    slots_blank(engine, mem_fd)
    close(mem_fd)
    return <int>task_detach(tid, 0)


cdef bint memory_is_shared(const engine_t *engine, pid_t tid, int event) noexcept nogil:
    cdef long order = syscall(SYS_kcmp, <long>engine.pid, <long>tid, <long>KCMP_VM, <long>0, <long>0)
    # Where nobody can say: vfork shares, the others do not.
    return order == 0 if order >= 0 else event == PTRACE_EVENT_VFORK


cdef int child_settle(engine_t *engine, pid_t tid, int event) noexcept nogil:
    """A thread of the process is taken in; so is a process that shares its memory, until it executes or ends. One with a
    copy is cleaned and let go, or followed."""
    cdef task_t *task
    cdef bint foreign = task_relation(tid, b"\nTgid:") != engine.pid
    if foreign and not memory_is_shared(engine, tid, event):
        if engine.children == CHILDREN_FOLLOW:
            engine.family.current = engine
            engine.family.child_tid = tid
            engine.family.child_executes = False
            return LOOP_CHILD
        return child_clean(engine, tid)
    task = task_add(&engine.tasks, tid)
    if task == NULL:
        return -ENOMEM
    if foreign:
        task.flags |= TASK_FOREIGN
    return <int>task_cont(tid, 0)


cdef int child_expect(engine_t *engine, pid_t parent_tid, int event) noexcept nogil:
    cdef unsigned long message = 0
    cdef stop_t stop
    cdef task_t *task
    cdef pid_t tid
    cdef int status = <int>event_message(parent_tid, &message)
    tid = <pid_t>message
    if status < 0 or tid == 0 or family_find(engine.family, tid) != NULL:
        return status
    # It has nothing to do but to stop, or to die.
    status = stop_wait_task(tid, &stop)
    if status < 0:
        return 0 if status == -ECHILD else status  # met before, and let go
    if stop_is_end(&stop):
        return stop_consume(tid, &stop)
    status = child_settle(engine, tid, event)
    if status == LOOP_CHILD:
        task = task_find(&engine.tasks, parent_tid)
        if task.child and task.child != tid and family_find(engine.family, task.child) == NULL:
            child_clean(engine, task.child)  # only one can be remembered
        task.child = tid
    return 0 if status == -ESRCH else status


cdef void children_give_up(engine_t *engine) noexcept nogil:
    cdef uint32_t i
    cdef task_t *task
    for i in range(engine.tasks.mask + 1):
        task = &engine.tasks.table[i]
        if task.tid and task.child and family_find(engine.family, task.child) == NULL:
            child_clean(engine, task.child)
        task.child = 0


cdef int child_meet(family_t *family, const stop_t *stop) noexcept nogil:
    cdef engine_t *engine
    cdef stop_t taken
    cdef int status
    if stop_is_end(stop):
        return stop_consume(stop.tid, &taken)
    engine = family_member(family, task_relation(stop.tid, b"\nTgid:"))
    if engine == NULL:
        # CLONE_PARENT gives it another parent; with one process in the family there is no doubt all the same.
        engine = family_member(family, task_relation(stop.tid, b"\nPPid:"))
    if engine == NULL:
        engine = family.first
    status = child_settle(engine, stop.tid, 0)
    return LOOP_NONE if status == -ESRCH else status


cdef int child_execute(engine_t *engine, pid_t tid) noexcept nogil:
    if engine.children != CHILDREN_FOLLOW:
        task_remove(&engine.tasks, tid)
        return <int>task_detach(tid, 0)
    engine.family.current = engine
    engine.family.child_tid = tid
    engine.family.child_executes = True
    return LOOP_CHILD


cdef int child_adopt(engine_t *engine) noexcept nogil:
    cdef engine_t *parent = <engine_t *>engine.parent
    cdef uint32_t i
    cdef int status = 0
    if parent.family.child_executes:
        task_remove(&parent.tasks, engine.pid)
    if task_add(&engine.tasks, engine.pid) == NULL:
        return -ENOMEM
    family_join(engine)
    engine.parent = NULL
    if not engine.family.child_executes:
        slot_forsake(engine, engine.pid)
        status = text_match(&engine.text, engine.text.mem_fd, True)
        if status > 0:
            # The copy is older than the last insertion, and so are its slots. Where it has not even the arena, the loop
            # finds out: LOOP_AREA.
            text_rewrite(&engine.text, 0, ~<uint64_t>0)
            status = 0
    for i in range(parent.tasks.mask + 1):
        if parent.tasks.table[i].child == engine.pid:
            parent.tasks.table[i].child = 0
    return status
