"""Following a task over processors: see follow.pxd."""

from libc.stdio cimport snprintf
from libc.stdlib cimport atoi
from libc.string cimport strrchr
from posix.fcntl cimport O_CLOEXEC, O_RDONLY, open
from posix.types cimport pid_t
from posix.unistd cimport close, read

cdef extern from "<sched.h>" nogil:
    ctypedef struct cpu_set_t:
        pass
    void CPU_ZERO(cpu_set_t *set)
    void CPU_SET(int cpu, cpu_set_t *set)
    int CPU_SETSIZE
    int sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set)

cdef enum:
    FOLLOW_EVERY = 256     # stops between two looks; a look costs about as much as one stop
    PROCESSOR_FIELD = 37   # proc_pid_stat(5): field 39, the 37th after the command's closing parenthesis


cdef int task_processor(pid_t tid) noexcept nogil:
    """The processor that the task last ran on, or -1."""
    cdef char path[64]
    cdef char text[1024]
    cdef char *at
    cdef int fd, field
    cdef ssize_t size
    snprintf(path, sizeof(path), b"/proc/%d/task/%d/stat", tid, tid)
    fd = open(path, O_RDONLY | O_CLOEXEC)
    if fd < 0:
        return -1
    size = read(fd, text, sizeof(text) - 1)
    close(fd)
    if size <= 0:
        return -1
    text[size] = 0
    at = strrchr(text, b')')
    field = 0
    while at != NULL and at[0] and field < PROCESSOR_FIELD:
        if at[0] == b' ':
            field += 1
        at += 1
    return atoi(at) if at != NULL and field == PROCESSOR_FIELD else -1


cdef void follow_task(engine_t *engine, pid_t tid) noexcept nogil:
    cdef int processor = task_processor(tid)
    cdef cpu_set_t set
    engine.until_follow = FOLLOW_EVERY
    if processor < 0 or processor == engine.processor or processor >= CPU_SETSIZE:
        return
    CPU_ZERO(&set)
    CPU_SET(processor, &set)
    # Refused where a cpuset keeps us off that processor; then we stay where we are.
    if sched_setaffinity(0, sizeof(set), &set) == 0:
        engine.processor = processor
