"""The tasks (threads) of a target that we trace, found by tid."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from posix.types cimport pid_t

from uprobe_core.linux.ptrace cimport siginfo_t
from uprobe_core.x86.fixup cimport saved_t

cdef enum task_flag:
    TASK_STEPPING = 0x01  # inside the single step of `site`
    TASK_HELD = 0x02      # stopped while the world is stopped; `status` is the stop it is at
    TASK_FOREIGN = 0x04   # of another thread group that shares the address space (vfork, CLONE_VM)
    TASK_DEFERRING = 0x10 # steps through its slot before signal `deferred` is delivered
    TASK_KEPT = 0x20      # a new target that waits at its entry point, its stop taken note of
    TASK_REPLAY = 0x08    # the hit at `replay_ip` was reported already and comes once more
    TASK_RESTARTING = 0x40 # the system call of the site at `restart_ip` was interrupted and may be restarted
    TASK_SPARED = 0x80    # asleep in a call and nowhere near a slot: need not be stopped for a leave

ctypedef struct task_t:
    pid_t tid       # 0: an empty entry
    int status      # of the stop it is held at
    uint32_t flags  # enum task_flag
    uint32_t site
    saved_t saved   # what the step has to put back
    uint32_t taken_back  # how often the hit at `site` was taken back for a signal, in a row
    uint64_t replay_ip   # of the site, and the stack pointer at the hit
    uint64_t replay_rsp
    uint64_t restart_ip
    int deferred         # the signal that waits
    siginfo_t deferred_info
    uint64_t mask        # the signal mask to put back then
    # The call that an interruption ends with EINTR: when its time is up (0: it has none), what it returns then, and when
    # it was put back (0: it was not). Times are of CLOCK_MONOTONIC.
    uint64_t call_due_ns
    uint64_t call_put_back_ns
    int64_t call_result
    long call_number
    pid_t child          # that it has made, and that nobody has settled yet; 0: none

ctypedef struct tasks_t:
    task_t *table   # open addressing, power of two, at most half full
    uint32_t mask
    uint32_t count

cdef int tasks_make(tasks_t *tasks) noexcept nogil
cdef void tasks_drop(tasks_t *tasks) noexcept nogil

# The task of `tid`, or NULL. Pointers are good until the next task_add or task_remove.
cdef task_t *task_find(const tasks_t *tasks, pid_t tid) noexcept nogil

# The task of `tid`, new if need be; NULL: no memory.
cdef task_t *task_add(tasks_t *tasks, pid_t tid) noexcept nogil
cdef void task_remove(tasks_t *tasks, pid_t tid) noexcept nogil

# Forgets all threads but `tid`, which starts afresh; foreign tasks stay.
cdef void tasks_keep(tasks_t *tasks, pid_t tid) noexcept nogil
