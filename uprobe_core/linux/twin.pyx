"""The twin: see twin.pxd."""

from libc.errno cimport ENOMEM, ESRCH, errno
from libc.stdint cimport uint8_t, uintptr_t
from posix.mman cimport MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap, munmap
from posix.signal cimport sigaction, sigaction_t, sigdelset, sigfillset, sigset_t
from posix.types cimport pid_t

from uprobe_core.linux.doorbell cimport bell_hang, bell_remove, bell_ring
from uprobe_core.linux.ptrace cimport syscall

cdef extern from "linux/handover.h" nogil:
    void futex_wait(int *word, int value)
    void futex_wake(int *word)
    int word_load(const int *word)
    void word_store(int *word, int value)
    int word_exchange_if(int *word, int before, int after)

cdef extern from * nogil:
    void *__builtin_frame_address(unsigned int level)

cdef extern from "<sched.h>" nogil:
    int clone(int (*entry)(void *) noexcept nogil, void *stack, int flags, void *argument,
              pid_t *parent_tid, void *tls, int *child_tid)
    const int CLONE_VM
    const int CLONE_CHILD_CLEARTID
    const int CLONE_FILES
    const int CLONE_FS

cdef extern from "<sys/prctl.h>" nogil:
    const int PR_SET_PDEATHSIG
    const int PR_SET_NAME

cdef extern from "<sys/syscall.h>" nogil:
    const long SYS_prctl
    const long SYS_getppid
    const long SYS_setsid
    const long SYS_exit
    const long SYS_wait4
    const long SYS_rt_sigprocmask

cdef extern from "<sys/wait.h>" nogil:
    const int __WALL

cdef extern from "<signal.h>" nogil:
    const int SIGUSR1
    const int SIG_SETMASK
    int pthread_sigmask(int how, const sigset_t *new, sigset_t *old)

cdef extern from "<unistd.h>" nogil:
    pid_t getpid()

cdef enum:
    STACK_BYTES = 1 << 18

cdef enum twin_word:
    TWIN_ENDED  # 0: the kernel stores it when the twin ends, however that came (CLONE_CHILD_CLEARTID)
    TWIN_CALL
    TWIN_DONE
    TWIN_STOP
    TWIN_ORPHAN


cdef void host_died(int signal) noexcept nogil:
    # All twins share this memory: ours is at the foot of the stack that we run on.
    cdef uintptr_t here = <uintptr_t>__builtin_frame_address(0)
    cdef twin_t *twin = (<twin_t **>(here & ~<uintptr_t>(STACK_BYTES - 1)))[0]
    word_store(&twin.host_is_gone, 1)
    word_exchange_if(&twin.word, TWIN_DONE, TWIN_ORPHAN)
    bell_ring(&twin.bell)


cdef int twin_main(void *argument) noexcept nogil:
    cdef twin_t *twin = <twin_t *>argument
    cdef sigaction_t action
    cdef sigset_t mask
    cdef int word
    action.sa_handler = host_died
    action.sa_flags = 0
    sigfillset(&action.sa_mask)
    sigaction(SIGUSR1, &action, NULL)
    twin.result = bell_hang(&twin.bell)
    sigfillset(&mask)
    sigdelset(&mask, SIGUSR1)
    syscall(SYS_rt_sigprocmask, <long>SIG_SETMASK, <long>&mask, NULL, <long>8)
    syscall(SYS_setsid)  # a signal to the host's process group is not for us
    syscall(SYS_prctl, <long>PR_SET_NAME, b"uprobes-tracer")
    syscall(SYS_prctl, <long>PR_SET_PDEATHSIG, <long>SIGUSR1)
    if syscall(SYS_getppid) != <long>twin.host_pid:
        syscall(SYS_exit, <long>0)
    word_store(&twin.word, TWIN_DONE)
    futex_wake(&twin.word)
    while True:
        word = word_load(&twin.word)
        if word_load(&twin.host_is_gone):
            twin.orphaned(twin.orphaned_argument)
            bell_remove(&twin.bell)
            syscall(SYS_exit, <long>0)
        elif word == TWIN_CALL:
            twin.result = twin.function(twin.argument)
            word_store(&twin.word, TWIN_DONE)
            futex_wake(&twin.word)
        elif word == TWIN_STOP:
            bell_remove(&twin.bell)
            syscall(SYS_exit, <long>0)
        else:
            futex_wait(&twin.word, word)
    return 0


cdef int twin_start(twin_t *twin, bint apart, twin_function_t orphaned, void *argument) noexcept nogil:
    cdef uint8_t *memory
    twin.pid = 0
    twin.host_is_gone = 0
    twin.orphaned = orphaned
    twin.orphaned_argument = argument
    if not apart:
        return bell_hang(&twin.bell)
    # Aligned to its size, so that a signal handler finds its twin from any stack address.
    memory = <uint8_t *>mmap(NULL, 2 * STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if memory == <uint8_t *>MAP_FAILED:
        return -ENOMEM
    twin.stack = memory
    memory = <uint8_t *>((<uintptr_t>memory + STACK_BYTES - 1) & ~<uintptr_t>(STACK_BYTES - 1))
    (<twin_t **>memory)[0] = twin
    twin.word = TWIN_CALL
    twin.function = NULL
    twin.host_pid = getpid()
    # No exit signal: the host's own wait calls do not see it.
    twin.pid = clone(twin_main, memory + STACK_BYTES, CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_CHILD_CLEARTID, twin,
                     NULL, NULL, &twin.word)
    if twin.pid < 0:
        twin.pid = 0
        munmap(twin.stack, 2 * STACK_BYTES)
        return -errno
    while word_load(&twin.word) == TWIN_CALL:
        futex_wait(&twin.word, TWIN_CALL)
    return min(twin.result, 0) if word_load(&twin.word) == TWIN_DONE else -ESRCH


cdef int twin_call(twin_t *twin, twin_function_t function, void *argument) noexcept nogil:
    if twin.pid == 0:
        return function(argument)
    twin.function = function
    twin.argument = argument
    if word_exchange_if(&twin.word, TWIN_DONE, TWIN_CALL) == 0:
        return -ESRCH
    futex_wake(&twin.word)
    while word_load(&twin.word) == TWIN_CALL:
        futex_wait(&twin.word, TWIN_CALL)
    return twin.result if word_load(&twin.word) == TWIN_DONE else -ESRCH


cdef void twin_stop(twin_t *twin) noexcept nogil:
    if twin.pid == 0:
        bell_remove(&twin.bell)
        return
    word_exchange_if(&twin.word, TWIN_DONE, TWIN_STOP)
    futex_wake(&twin.word)
    syscall(SYS_wait4, <long>twin.pid, NULL, <long>__WALL, NULL)
    munmap(twin.stack, 2 * STACK_BYTES)
    twin.pid = 0


cdef bint twin_host_is_gone(const twin_t *twin) noexcept nogil:
    return word_load(&twin.host_is_gone)


cdef bint twin_is_lost(const twin_t *twin) noexcept nogil:
    return twin.pid != 0 and word_load(&twin.word) == TWIN_ENDED
