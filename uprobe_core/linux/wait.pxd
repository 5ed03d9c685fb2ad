"""Waiting for stops of the tasks that the calling thread traces, without consuming them.

A stop that was waited for is forgotten when the tracer dies: its signal is dropped and the thread runs on one byte into
the probed instruction. So stops are looked at with WNOWAIT, and end only when the task is resumed.

__WNOTHREAD keeps the wait to tasks of the calling thread, so children of the host program are never reaped.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport uint64_t
from posix.types cimport pid_t

cdef extern from *:
    """
    #include <signal.h>
    #include <sys/wait.h>
    #ifndef __WNOTHREAD
    #define __WNOTHREAD 0x20000000
    #endif
    /* One stop or end of a task. */
    typedef struct stop {
        pid_t tid;
        int code;   /* CLD_TRAPPED, CLD_STOPPED, CLD_EXITED, CLD_KILLED, CLD_DUMPED */
        int status; /* of a trap: signal | event << 8; of an end: the exit code or the signal */
    } stop_t;
    static inline int stop_wait(idtype_t which, id_t id, int options, stop_t *stop) {
        siginfo_t info;
        stop->tid = stop->code = stop->status = 0;
        info.si_pid = 0;
        if (waitid(which, id, &info, options | __WALL | __WNOTHREAD) < 0)
            return -1;
        stop->tid = info.si_pid;
        stop->code = info.si_code;
        stop->status = info.si_status;
        return 0;
    }
    """
    ctypedef struct stop_t:
        pid_t tid
        int code
        int status
    ctypedef int idtype_t
    const idtype_t P_ALL
    const idtype_t P_PID
    const int WSTOPPED
    const int WEXITED
    const int WNOWAIT
    const int WNOHANG
    const int CLD_EXITED
    const int CLD_KILLED
    const int CLD_DUMPED
    const int CLD_TRAPPED
    const int CLD_STOPPED
    const int SIGTRAP
    const int SIGSTOP
    const int SIGTSTP
    const int SIGTTIN
    const int SIGTTOU
    const int SIGCONT
    const int SIGKILL
    int stop_wait(idtype_t which, int id, int options, stop_t *stop) nogil

# Blocks until some task stops or ends. 0, or -errno (-ECHILD: nothing is traced; -EINTR: look for other work).
cdef inline int stop_wait_any(stop_t *stop) noexcept nogil:
    return 0 if stop_wait(P_ALL, 0, WSTOPPED | WEXITED | WNOWAIT, stop) == 0 else -errno

# The same without blocking: stop.tid is 0 when nothing has happened.
cdef inline int stop_poll_any(stop_t *stop) noexcept nogil:
    return 0 if stop_wait(P_ALL, 0, WSTOPPED | WEXITED | WNOWAIT | WNOHANG, stop) == 0 else -errno

# Blocks until task `tid` stops or ends.
cdef inline int stop_wait_task(pid_t tid, stop_t *stop) noexcept nogil:
    cdef int status
    while True:
        if stop_wait(P_PID, tid, WSTOPPED | WEXITED | WNOWAIT, stop) == 0:
            return 0
        status = -errno
        if status != -EINTR:
            return status

# The same without blocking: stop.tid is 0 when it runs.
cdef inline int stop_poll_task(pid_t tid, stop_t *stop) noexcept nogil:
    return 0 if stop_wait(P_PID, tid, WSTOPPED | WEXITED | WNOWAIT | WNOHANG, stop) == 0 else -errno

# Takes note of an end (the zombie goes away) or of a stop that is kept for long.
cdef inline int stop_consume(pid_t tid, stop_t *stop) noexcept nogil:
    return 0 if stop_wait(P_PID, tid, WSTOPPED | WEXITED | WNOHANG, stop) == 0 else -errno

cdef inline bint stop_is_end(const stop_t *stop) noexcept nogil:
    return stop.code == CLD_EXITED or stop.code == CLD_KILLED or stop.code == CLD_DUMPED

cdef inline int stop_signal(const stop_t *stop) noexcept nogil:
    return stop.status & 0xff

cdef inline int stop_event(const stop_t *stop) noexcept nogil:
    return stop.status >> 8
