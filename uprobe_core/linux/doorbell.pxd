"""Waking the tracer thread out of waitid(2), with no race and no signal handler in the host program.

Nothing pollable announces ptrace stops, so the wake-up has to be a wait event: the bell is a child of the tracer
thread that sleeps for ever; ringing stops it. It shares our memory, blocks every signal, is invisible to the host's own
wait calls (exit signal 0) and dies with the tracer thread (PR_SET_PDEATHSIG).
"""

from libc.stdint cimport uint64_t
from posix.types cimport pid_t

ctypedef struct bell_t:
    pid_t pid
    void *stack
    pid_t parent
    int word              # counts the changes of alarm_ns; the bell sleeps on it
    uint64_t alarm_ns     # CLOCK_MONOTONIC; when the bell rings by itself, 0: never

# Makes the bell; only from the thread that will wait. 0, or -errno.
cdef int bell_hang(bell_t *bell) noexcept nogil

# From any thread: makes the waiting thread see a stop of the bell.
cdef void bell_ring(const bell_t *bell) noexcept nogil

# By the waiting thread, when it saw the stop and before it looks at what it was woken for.
cdef void bell_reset(const bell_t *bell) noexcept nogil

# By the thread that hung it.
cdef void bell_remove(bell_t *bell) noexcept nogil

# By the waiting thread: the bell rings by itself at this time, once (0: not any more).
cdef void bell_set_alarm(bell_t *bell, uint64_t at_ns) noexcept nogil
