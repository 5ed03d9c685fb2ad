"""Sleeping tasks: see asleep.pxd."""

from libc.errno cimport EAGAIN, EINPROGRESS, ETIME
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf, sscanf
from libc.stdlib cimport strtod, strtol
from libc.string cimport memset, strrchr, strstr
from posix.fcntl cimport O_CLOEXEC, O_RDONLY, open
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.types cimport pid_t
from posix.unistd cimport close, read

from uprobe_core.linux.memory cimport memory_load
from uprobe_core.linux.ptrace cimport syscall

cdef extern from "<sys/syscall.h>" nogil:
    const long SYS_clone
    const long SYS_clone3
    const long SYS_fork
    const long SYS_gettid
    const long SYS_pidfd_open
    const long SYS_pidfd_getfd
    const long SYS_epoll_wait
    const long SYS_epoll_pwait
    const long SYS_epoll_pwait2
    const long SYS_rt_sigtimedwait
    const long SYS_semtimedop
    const long SYS_io_getevents
    const long SYS_io_pgetevents
    const long SYS_io_uring_enter
    const long SYS_read
    const long SYS_readv
    const long SYS_recvfrom
    const long SYS_recvmsg
    const long SYS_recvmmsg
    const long SYS_accept
    const long SYS_accept4
    const long SYS_write
    const long SYS_writev
    const long SYS_sendto
    const long SYS_sendmsg
    const long SYS_sendmmsg
    const long SYS_connect

cdef extern from "<sys/socket.h>" nogil:
    const int SOL_SOCKET
    const int SO_RCVTIMEO
    const int SO_SNDTIMEO
    int getsockopt(int fd, int level, int option, void *value, unsigned int *size)

cdef extern from "<sched.h>" nogil:
    const int CLONE_VM
    ctypedef struct cpu_set_t:
        pass
    void CPU_ZERO(cpu_set_t *set)
    void CPU_SET(int cpu, cpu_set_t *set)
    int CPU_SETSIZE
    int sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set)
    int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
    int sched_yield()

cdef enum:
    TEXT_BYTES = 4096
    RING_EXT_ARGUMENT = 8  # IORING_ENTER_EXT_ARG
    PROCESSOR_FIELD = 37   # proc_pid_stat(5): field 39, the 37th after the command's closing parenthesis
    SECOND_NS = 1000000000
    MILLISECOND_NS = 1000000


cdef uint64_t monotonic_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t>now.tv_sec * SECOND_NS + <uint64_t>now.tv_nsec


cdef ssize_t task_text(pid_t tid, const char *name, char *text) noexcept nogil:
    """A file of /proc/TID (threads have such directories, too), at most TEXT_BYTES - 1 of it; 0 if it cannot be read."""
    cdef char path[64]
    cdef int fd
    cdef ssize_t size
    snprintf(path, sizeof(path), b"/proc/%d/%s", tid, name)
    fd = open(path, O_RDONLY | O_CLOEXEC)
    if fd < 0:
        return 0
    size = read(fd, text, TEXT_BYTES - 1)
    close(fd)
    text[size if size > 0 else 0] = 0
    return size if size > 0 else 0


cdef bint task_asleep(pid_t tid, asleep_t *asleep) noexcept nogil:
    cdef char text[TEXT_BYTES]
    cdef uint64_t sp
    asleep.number = -1
    # proc_pid_syscall(5): "running", or the call's number, its arguments, the stack pointer, and where it goes on.
    if task_text(tid, b"syscall", text) == 0 or text[0] < b'0' or text[0] > b'9':
        return False
    return sscanf(text, b"%ld %lx %lx %lx %lx %lx %lx %lx %lx", &asleep.number, &asleep.arguments[0], &asleep.arguments[1],
                  &asleep.arguments[2], &asleep.arguments[3], &asleep.arguments[4], &asleep.arguments[5], &sp,
                  &asleep.ip) == 9


cdef bint asleep_copies(pid_t tid, const asleep_t *asleep) noexcept nogil:
    cdef uint64_t flags = asleep.arguments[0]
    if asleep.number == SYS_fork:
        return True
    if asleep.number == SYS_clone3 and memory_load(tid, asleep.arguments[0], &flags, sizeof(flags)) < 0:
        return True
    return (asleep.number == SYS_clone or asleep.number == SYS_clone3) and not flags & CLONE_VM


cdef double sched_start_ms(pid_t tid) noexcept nogil:
    """When the task last began or ended to run, by its processor's own clock; negative: unknown."""
    cdef char text[TEXT_BYTES]
    cdef char *at
    if task_text(tid, b"sched", text) == 0:
        return -1
    at = strstr(text, b"se.exec_start")
    at = NULL if at == NULL else strstr(at, b":")
    return -1 if at == NULL else strtod(at + 1, NULL)


cdef int task_processor(pid_t tid) noexcept nogil:
    cdef char text[TEXT_BYTES]
    cdef char *at
    cdef int field = 0
    if task_text(tid, b"stat", text) == 0:
        return -1
    at = strrchr(text, b')')
    while at != NULL and at[0] and field < PROCESSOR_FIELD:
        if at[0] == b' ':
            field += 1
        at += 1
    return <int>strtol(at, NULL, 10) if at != NULL and field == PROCESSOR_FIELD else -1


cdef int64_t asleep_since(pid_t tid) noexcept nogil:
    # The clocks of two processors differ by what each spent on interrupts: ours is read on the one where the task ran.
    cdef cpu_set_t allowed, one
    cdef double began = sched_start_ms(tid)
    cdef double now
    cdef int processor = task_processor(tid)
    if began < 0 or processor < 0 or processor >= CPU_SETSIZE or sched_getaffinity(0, sizeof(allowed), &allowed) < 0:
        return -1
    CPU_ZERO(&one)
    CPU_SET(processor, &one)
    sched_setaffinity(0, sizeof(one), &one)
    sched_yield()  # brings our own account up to date
    now = sched_start_ms(<pid_t>syscall(SYS_gettid))
    sched_setaffinity(0, sizeof(allowed), &allowed)
    return -1 if now < began else <int64_t>((now - began) * MILLISECOND_NS)


cdef int64_t timeout_at(pid_t tid, uint64_t vaddr) noexcept nogil:
    """The struct timespec at `vaddr` of the task, or -1."""
    cdef int64_t span[2]
    if vaddr == 0 or memory_load(tid, vaddr, span, sizeof(span)) < 0:
        return -1
    if span[0] < 0 or span[0] > 1 << 30:
        return -1
    return span[0] * SECOND_NS + span[1]


cdef int64_t socket_timeout(pid_t pid, int number, int option) noexcept nogil:
    """SO_RCVTIMEO or SO_SNDTIMEO of a descriptor of the process, or -1."""
    cdef int64_t span[2]
    cdef unsigned int size = sizeof(span)
    cdef int fd
    cdef int process = <int>syscall(SYS_pidfd_open, <long>pid, <long>0)
    if process < 0:
        return -1
    fd = <int>syscall(SYS_pidfd_getfd, <long>process, <long>number, <long>0)
    close(process)
    if fd < 0:
        return -1
    memset(span, 0, sizeof(span))
    if getsockopt(fd, SOL_SOCKET, option, span, &size) < 0:
        size = 0
    close(fd)
    if size != sizeof(span) or (span[0] == 0 and span[1] == 0):
        return -1
    return span[0] * SECOND_NS + span[1] * 1000


cdef int64_t asleep_timeout(pid_t pid, pid_t tid, asleep_t *asleep, int64_t *result) noexcept nogil:
    cdef long number = asleep.number
    cdef uint64_t *arguments = asleep.arguments
    cdef int64_t milliseconds
    cdef uint64_t extra[3]  # struct io_uring_getevents_arg
    result[0] = -EAGAIN
    if number == SYS_epoll_wait or number == SYS_epoll_pwait:
        result[0] = 0
        milliseconds = <int>arguments[3]
        return -1 if milliseconds < 0 else milliseconds * MILLISECOND_NS
    if number == SYS_epoll_pwait2:
        result[0] = 0
        return timeout_at(tid, arguments[3])
    if number == SYS_rt_sigtimedwait:
        return timeout_at(tid, arguments[2])
    if number == SYS_semtimedop:
        return timeout_at(tid, arguments[3])
    if number == SYS_io_getevents or number == SYS_io_pgetevents:
        result[0] = 0
        return timeout_at(tid, arguments[4])
    if number == SYS_io_uring_enter:
        result[0] = -ETIME
        if not arguments[3] & RING_EXT_ARGUMENT or memory_load(tid, arguments[4], extra, sizeof(extra)) < 0:
            return -1
        return timeout_at(tid, extra[2])
    if (number == SYS_recvfrom or number == SYS_recvmsg or number == SYS_recvmmsg or number == SYS_accept
            or number == SYS_accept4 or number == SYS_read or number == SYS_readv):
        return socket_timeout(pid, <int>arguments[0], SO_RCVTIMEO)
    if (number == SYS_sendto or number == SYS_sendmsg or number == SYS_sendmmsg or number == SYS_write
            or number == SYS_writev):
        return socket_timeout(pid, <int>arguments[0], SO_SNDTIMEO)
    if number == SYS_connect:
        result[0] = -EINPROGRESS
        return socket_timeout(pid, <int>arguments[0], SO_SNDTIMEO)
    return -1
