"""Following a task over processors: see follow.pxd."""

from posix.types cimport pid_t

from uprobe_core.linux.asleep cimport task_processor

cdef extern from "<sched.h>" nogil:
    ctypedef struct cpu_set_t:
        pass
    void CPU_ZERO(cpu_set_t *set)
    void CPU_SET(int cpu, cpu_set_t *set)
    int CPU_SETSIZE
    int sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set)

cdef enum:
    FOLLOW_EVERY = 256     # stops between two looks; a look costs about as much as one stop


cdef void follow_task(engine_t *engine, pid_t tid) noexcept nogil:
    cdef int processor = task_processor(tid)
    cdef cpu_set_t set
    engine.family.until_follow = FOLLOW_EVERY
    if processor < 0 or processor == engine.family.processor or processor >= CPU_SETSIZE:
        return
    CPU_ZERO(&set)
    CPU_SET(processor, &set)
    # Refused where a cpuset keeps us off that processor; then we stay where we are.
    if sched_setaffinity(0, sizeof(set), &set) == 0:
        engine.family.processor = processor
