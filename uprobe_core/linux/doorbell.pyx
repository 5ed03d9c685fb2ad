"""The doorbell: see doorbell.pxd."""

from libc.errno cimport ENOMEM, errno
from libc.stdint cimport uint8_t, uint64_t
from posix.signal cimport kill, sigfillset, sigset_t
from posix.types cimport pid_t

from uprobe_core.linux.ptrace cimport syscall
from uprobe_core.linux.wait cimport SIGCONT, SIGKILL, SIGSTOP, stop_consume, stop_is_end, stop_t, stop_wait_task

cdef extern from "<sched.h>" nogil:
    int clone(int (*entry)(void *) noexcept nogil, void *stack, int flags, void *argument)
    const int CLONE_VM
    const int CLONE_FILES
    const int CLONE_FS

cdef extern from "<sys/prctl.h>" nogil:
    const int PR_SET_PDEATHSIG
    const int PR_SET_NAME

cdef extern from "<sys/syscall.h>" nogil:
    const long SYS_prctl
    const long SYS_getppid
    const long SYS_exit
    const long SYS_kill
    const long SYS_getpid

cdef extern from "linux/handover.h" nogil:
    int futex_wait_until(int *word, int value, uint64_t at_ns)
    void futex_wake(int *word)
    int word_load(const int *word)
    void word_store(int *word, int value)

cdef extern from "<pthread.h>" nogil:
    int pthread_sigmask(int how, const sigset_t *new, sigset_t *old)

cdef extern from "<signal.h>" nogil:
    const int SIG_SETMASK

cdef enum:
    STACK_BYTES = 16384

cdef extern from "<stdlib.h>" nogil:
    void *aligned_alloc(size_t alignment, size_t size)
    void free(void *memory)

cdef extern from "<unistd.h>" nogil:
    pid_t getpid()


cdef int bell_main(void *argument) noexcept nogil:
    # Nothing here may fail: errno and all else in thread-local storage belong to the tracer thread.
    cdef bell_t *bell = <bell_t *>argument
    cdef uint64_t at_ns
    cdef int word
    cdef int rung = -1  # the word for which it rang by itself: once is enough
    syscall(SYS_prctl, <long>PR_SET_PDEATHSIG, <long>SIGKILL)
    syscall(SYS_prctl, <long>PR_SET_NAME, b"uprobes-bell")
    if syscall(SYS_getppid) != <long>bell.parent:
        syscall(SYS_exit, <long>0)
    while True:
        word = word_load(&bell.word)
        at_ns = 0 if word == rung else bell.alarm_ns
        # A time that was set while we looked at it changes the word: then we look again at once.
        if futex_wait_until(&bell.word, word, at_ns):
            rung = word
            syscall(SYS_kill, syscall(SYS_getpid), <long>SIGSTOP)


cdef int bell_hang(bell_t *bell) noexcept nogil:
    cdef sigset_t everything, before
    bell.stack = aligned_alloc(16, STACK_BYTES)
    if bell.stack == NULL:
        return -ENOMEM
    # A terminal's Ctrl-C or Ctrl-Z reaches the whole process group; the mask is inherited.
    sigfillset(&everything)
    pthread_sigmask(SIG_SETMASK, &everything, &before)
    bell.parent = getpid()
    bell.word = 0
    bell.alarm_ns = 0
    # With a descriptor table of its own it would hold the host's pipes open.
    bell.pid = clone(bell_main, <uint8_t *>bell.stack + STACK_BYTES, CLONE_VM | CLONE_FILES | CLONE_FS,
                     bell)
    cdef int status = 0 if bell.pid > 0 else -errno
    pthread_sigmask(SIG_SETMASK, &before, NULL)
    if status < 0:
        free(bell.stack)
    return status


cdef void bell_ring(const bell_t *bell) noexcept nogil:
    kill(bell.pid, SIGSTOP)


cdef void bell_reset(const bell_t *bell) noexcept nogil:
    # A ring between these two lines is cancelled by SIGCONT; whoever rang had posted its work before, and the work
    # is looked at after this.
    cdef stop_t stop
    stop_consume(bell.pid, &stop)
    kill(bell.pid, SIGCONT)


cdef void bell_remove(bell_t *bell) noexcept nogil:
    cdef stop_t stop
    kill(bell.pid, SIGKILL)
    # A stop of the bell may come first; it is over only when its end has been taken note of.
    while stop_wait_task(bell.pid, &stop) == 0 and stop_consume(bell.pid, &stop) == 0 and not stop_is_end(&stop):
        pass
    free(bell.stack)
    bell.stack = NULL


cdef void bell_set_alarm(bell_t *bell, uint64_t at_ns) noexcept nogil:
    bell.alarm_ns = at_ns
    word_store(&bell.word, (word_load(&bell.word) + 1) & 0x3fffffff)
    futex_wake(&bell.word)
