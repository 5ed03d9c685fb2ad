"""Haste: see haste.pxd."""

cdef extern from "<sched.h>" nogil:
    ctypedef struct sched_param_t "struct sched_param":
        int sched_priority
    const int SCHED_FIFO
    const int SCHED_OTHER
    const int SCHED_RESET_ON_FORK
    int sched_setscheduler(int pid, int policy, const sched_param_t *param)
    int sched_getscheduler(int pid)


cdef void haste_begin() noexcept nogil:
    cdef sched_param_t param
    # Who has a priority of its own (SCHED_FIFO, SCHED_BATCH …) keeps it.
    if sched_getscheduler(0) == SCHED_OTHER:
        param.sched_priority = 1
        sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &param)


cdef void haste_end() noexcept nogil:
    cdef sched_param_t param
    if sched_getscheduler(0) == SCHED_FIFO | SCHED_RESET_ON_FORK:
        param.sched_priority = 0
        sched_setscheduler(0, SCHED_OTHER, &param)
