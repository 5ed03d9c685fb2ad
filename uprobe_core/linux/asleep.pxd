"""What a sleeping task waits for: its system call, since when it sleeps, and how long the call would take at most.

All of it is read from outside; the task does not notice.
"""

from libc.stdint cimport int64_t, uint64_t
from posix.types cimport pid_t

ctypedef struct asleep_t:
    long number             # of the system call; -1: asleep elsewhere in the kernel, or stopped
    uint64_t arguments[6]
    uint64_t ip             # where it goes on

# Whether the task sleeps in a system call, and in which one. False also where that may not be known.
cdef bint task_asleep(pid_t tid, asleep_t *asleep) noexcept nogil

# Whether the call makes a child with a copy of the memory. A parent that waits for a vfork's child does not.
cdef bint asleep_copies(pid_t tid, const asleep_t *asleep) noexcept nogil

# For how many nanoseconds it has slept, at least; -1: unknown (kernels without /proc/PID/sched).
cdef int64_t asleep_since(pid_t tid) noexcept nogil

# The time-out of a call that an interruption ends with EINTR even though no signal comes (signal(7)): nanoseconds, or
# -1 where it has none or is not of that kind. `result` is what the call returns when the time is up.
cdef int64_t asleep_timeout(pid_t pid, pid_t tid, asleep_t *asleep, int64_t *result) noexcept nogil

# The processor that the task last ran on, or -1.
cdef int task_processor(pid_t tid) noexcept nogil

# CLOCK_MONOTONIC in nanoseconds.
cdef uint64_t monotonic_ns() noexcept nogil
