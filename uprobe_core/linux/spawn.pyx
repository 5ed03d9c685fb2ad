"""Starting a program: see spawn.pxd."""

from libc.errno cimport errno
from libc.stdlib cimport calloc, free
from posix.types cimport pid_t

from uprobe_core.linux.wait cimport SIGSTOP, stop_t, stop_wait_task

cdef extern from "<unistd.h>" nogil:
    pid_t fork()
    pid_t getpid()
    pid_t getppid()
    int dup2(int old, int new)
    int chdir(const char *path)
    int execve(const char *path, char **argv, char **envp)
    void _exit(int status)

cdef extern from "<signal.h>" nogil:
    ctypedef void (*handler_t)(int)
    const handler_t SIG_DFL
    const int SIGPIPE
    handler_t signal(int number, handler_t handler)
    int kill(pid_t pid, int number)

cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int option, ...)
    const int PR_SET_PTRACER

cdef enum:
    EXEC_FAILED = 127


cdef pid_t child_start(char **argv, char **envp, const char *cwd, const int *fds) noexcept nogil:
    cdef stop_t stop
    cdef int i, status
    cdef pid_t child = fork()
    if child < 0:
        return -errno
    if child == 0:
        # Only async-signal-safe calls: other threads of the host may hold any lock.
        for i in range(3):
            if fds[i] >= 0:
                dup2(fds[i], i)
        signal(SIGPIPE, SIG_DFL)  # Python ignores it, and ignored signals survive an exec
        prctl(PR_SET_PTRACER, <unsigned long>getppid(), 0, 0, 0)
        if cwd == NULL or chdir(cwd) == 0:
            kill(getpid(), SIGSTOP)
            execve(argv[0], argv, envp)
        _exit(EXEC_FAILED)
    status = stop_wait_task(child, &stop)
    return status if status < 0 else child


def start(list argv, list envp, cwd, fds):
    """Start argv[0] (a path), stopped before its exec, with descriptors `fds` (three; -1: inherited). Its pid."""
    cdef char **arguments = <char **>calloc(len(argv) + 1, sizeof(char *))
    cdef char **environment = <char **>calloc(len(envp) + 1, sizeof(char *))
    cdef const char *directory = NULL
    cdef int descriptors[3]
    cdef pid_t pid
    try:
        if arguments == NULL or environment == NULL:
            raise MemoryError("no memory for the program's arguments")
        for i, item in enumerate(argv):
            arguments[i] = item
        for i, item in enumerate(envp):
            environment[i] = item
        if cwd is not None:
            directory = cwd
        for i in range(3):
            descriptors[i] = fds[i]
        with nogil:
            pid = child_start(arguments, environment, directory, descriptors)
    finally:
        free(arguments)
        free(environment)
    if pid < 0:
        raise OSError(-pid, "cannot start the program")
    return pid
