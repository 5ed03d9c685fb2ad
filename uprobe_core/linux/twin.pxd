"""The twin: a process that shares our memory and files and is the tracer in our place.

A tracer in the host program's own thread group would break the host: wait calls for its own children would be given (and
would swallow) the stops of those that are traced, because the kernel treats a child traced by its real parent's thread
group as the parent's tracee (Linux kernel/exit.c, wait_consider_task). The twin is a thread group of its own.

It runs functions that its one caller, the thread that started it, hands over; the caller sleeps meanwhile. So the two never
run at once, and the twin may use the caller's thread-local storage (errno, malloc's caches) as if it were that thread.

The twin outlives a SIGKILL of the host: it is told by PR_SET_PDEATHSIG, rings its bell, and runs `orphaned` before it ends.
"""

from posix.types cimport pid_t

from uprobe_core.linux.doorbell cimport bell_t

ctypedef int (*twin_function_t)(void *argument) noexcept nogil

ctypedef struct twin_t:
    pid_t pid            # 0: no twin; calls run in the calling thread
    int word             # enum twin_word
    int result
    int host_is_gone     # set once the host has died
    pid_t host_pid
    twin_function_t function
    void *argument
    twin_function_t orphaned
    void *orphaned_argument
    void *stack
    bell_t bell          # hung by the tracer, be it the twin or the calling thread

# Starts a twin of the calling thread, which must block all signals from now on and be its only caller, and hangs the
# bell. apart False: no twin, the calling thread itself will be the tracer (where Yama lets only ancestors trace).
# `orphaned` is what the twin runs when the host has died. 0, or -errno.
cdef int twin_start(twin_t *twin, bint apart, twin_function_t orphaned, void *argument) noexcept nogil

# Runs function(argument) in the tracer and returns its result; -ESRCH: somebody killed the twin.
cdef int twin_call(twin_t *twin, twin_function_t function, void *argument) noexcept nogil

# Whether somebody has killed the twin: then nobody traces any more.
cdef bint twin_is_lost(const twin_t *twin) noexcept nogil

# Ends the twin and removes the bell.
cdef void twin_stop(twin_t *twin) noexcept nogil

# Whether the host has died; the function that the twin runs then has to return.
cdef bint twin_host_is_gone(const twin_t *twin) noexcept nogil
