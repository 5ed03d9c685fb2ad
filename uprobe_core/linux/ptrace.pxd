"""ptrace(2) requests on one task (a thread), as inline functions: 0 (or a value) on success, -errno on failure.

Only the thread that seized a task may call these for it. The raw system call is used because glibc's wrapper
cannot tell a peeked -1 from an error, and because it needs no variadic casts.
"""

from libc.errno cimport errno
from libc.stdint cimport uint64_t
from posix.types cimport pid_t

from uprobe_core.abi cimport regs_t

cdef extern from "<unistd.h>" nogil:
    long syscall(long number, ...)

cdef extern from "<sys/syscall.h>" nogil:
    const long SYS_ptrace

cdef extern from "<sys/ptrace.h>" nogil:
    const int PTRACE_PEEKUSER
    const int PTRACE_POKEUSER
    const int PTRACE_CONT
    const int PTRACE_SINGLESTEP
    const int PTRACE_GETREGS
    const int PTRACE_SETREGSET
    const int PTRACE_DETACH
    const int PTRACE_SYSCALL
    const int PTRACE_GETEVENTMSG
    const int PTRACE_GETSIGINFO
    const int PTRACE_SETSIGINFO
    const int PTRACE_SEIZE
    const int PTRACE_INTERRUPT
    const int PTRACE_LISTEN
    const int PTRACE_GETSIGMASK
    const int PTRACE_SETSIGMASK
    const int PTRACE_O_TRACESYSGOOD
    const int PTRACE_O_TRACEFORK
    const int PTRACE_O_TRACEVFORK
    const int PTRACE_O_TRACECLONE
    const int PTRACE_O_TRACEEXEC
    const int PTRACE_EVENT_FORK
    const int PTRACE_EVENT_VFORK
    const int PTRACE_EVENT_CLONE
    const int PTRACE_EVENT_EXEC
    const int PTRACE_EVENT_STOP
    const int PTRACE_PEEKSIGINFO

cdef extern from "<sys/ptrace.h>" nogil:
    const int PTRACE_PEEKSIGINFO_SHARED
    ctypedef struct peeksiginfo_t "struct __ptrace_peeksiginfo_args":
        uint64_t off
        unsigned int flags
        int nr

cdef extern from "<signal.h>" nogil:
    const int SI_KERNEL
    ctypedef struct siginfo_t:
        int si_signo
        int si_code
        void *si_addr

cdef extern from "<elf.h>" nogil:
    const int NT_PRSTATUS

cdef extern from "<sys/uio.h>" nogil:
    ctypedef struct iovec_t "struct iovec":
        void *iov_base
        size_t iov_len

# Words of struct user, whose first member is user_regs_struct.
cdef enum:
    WORD_RIP = 16
    WORD_SS = 20       # the first of the segment registers and bases but cs
    WORD_GS_BASE = 22
    WORDS = 27

cdef inline long ptrace_call(long request, pid_t tid, unsigned long addr, unsigned long argument) noexcept nogil:
    if syscall(SYS_ptrace, request, <long>tid, addr, argument) < 0:
        return -errno
    return 0

cdef inline long task_seize(pid_t tid, unsigned long options) noexcept nogil:
    return ptrace_call(PTRACE_SEIZE, tid, 0, options)

cdef inline long task_detach(pid_t tid, int signal) noexcept nogil:
    return ptrace_call(PTRACE_DETACH, tid, 0, signal)

cdef inline long task_interrupt(pid_t tid) noexcept nogil:
    return ptrace_call(PTRACE_INTERRUPT, tid, 0, 0)

cdef inline long task_listen(pid_t tid) noexcept nogil:
    return ptrace_call(PTRACE_LISTEN, tid, 0, 0)

cdef inline long task_cont(pid_t tid, int signal) noexcept nogil:
    return ptrace_call(PTRACE_CONT, tid, 0, signal)

cdef inline long task_step(pid_t tid, int signal) noexcept nogil:
    return ptrace_call(PTRACE_SINGLESTEP, tid, 0, signal)

cdef inline long task_to_syscall(pid_t tid, int signal) noexcept nogil:
    return ptrace_call(PTRACE_SYSCALL, tid, 0, signal)

cdef inline long word_get(pid_t tid, unsigned int word, uint64_t *value) noexcept nogil:
    return ptrace_call(PTRACE_PEEKUSER, tid, word * 8, <unsigned long>value)

cdef inline long word_set(pid_t tid, unsigned int word, uint64_t value) noexcept nogil:
    return ptrace_call(PTRACE_POKEUSER, tid, word * 8, value)

cdef inline long ip_get(pid_t tid, uint64_t *ip) noexcept nogil:
    return word_get(tid, WORD_RIP, ip)

cdef inline long ip_set(pid_t tid, uint64_t ip) noexcept nogil:
    return word_set(tid, WORD_RIP, ip)

cdef inline long regs_get(pid_t tid, regs_t *regs) noexcept nogil:
    return ptrace_call(PTRACE_GETREGS, tid, 0, <unsigned long>regs)

# Sets the general registers, rip, flags and cs. The segment registers and bases behind them stay as they are: the kernel
# may refuse to set them to the very values that it reported, halfway through (a null selector with a privilege level, a
# base in the upper half: Linux arch/x86/kernel/ptrace.c, set_segment_reg and putreg).
cdef inline long regs_set(pid_t tid, const regs_t *regs) noexcept nogil:
    cdef iovec_t what
    what.iov_base = <void *>regs
    what.iov_len = WORD_SS * 8
    return ptrace_call(PTRACE_SETREGSET, tid, NT_PRSTATUS, <unsigned long>&what)

# Sets all of them, of the segment registers and bases those that differ.
cdef inline long regs_change(pid_t tid, const regs_t *regs) noexcept nogil:
    cdef regs_t before
    cdef int word
    cdef long status = regs_get(tid, &before)
    for word in range(WORD_SS, WORDS):
        if status == 0 and (<const uint64_t *>&before)[word] != (<const uint64_t *>regs)[word]:
            status = word_set(tid, word, (<const uint64_t *>regs)[word])
    return regs_set(tid, regs) if status == 0 else status

cdef inline long event_message(pid_t tid, unsigned long *message) noexcept nogil:
    return ptrace_call(PTRACE_GETEVENTMSG, tid, 0, <unsigned long>message)

cdef inline long siginfo_get(pid_t tid, siginfo_t *siginfo) noexcept nogil:
    return ptrace_call(PTRACE_GETSIGINFO, tid, 0, <unsigned long>siginfo)

cdef inline long siginfo_set(pid_t tid, const siginfo_t *siginfo) noexcept nogil:
    return ptrace_call(PTRACE_SETSIGINFO, tid, 0, <unsigned long>siginfo)

# Signal masks are the kernel's 64-bit sets.
cdef inline long sigmask_get(pid_t tid, uint64_t *mask) noexcept nogil:
    return ptrace_call(PTRACE_GETSIGMASK, tid, 8, <unsigned long>mask)

cdef inline long sigmask_set(pid_t tid, const uint64_t *mask) noexcept nogil:
    return ptrace_call(PTRACE_SETSIGMASK, tid, 8, <unsigned long>mask)

# Up to `count` signals that wait for the task itself (queue 0) or its process (PTRACE_PEEKSIGINFO_SHARED): how many
# were stored in `infos`, or -errno.
cdef inline long siginfo_peek(pid_t tid, unsigned int queue, siginfo_t *infos, int count) noexcept nogil:
    cdef peeksiginfo_t what
    what.off = 0
    what.flags = queue
    what.nr = count
    cdef long got = syscall(SYS_ptrace, <long>PTRACE_PEEKSIGINFO, <long>tid, &what, infos)
    return got if got >= 0 else -errno
