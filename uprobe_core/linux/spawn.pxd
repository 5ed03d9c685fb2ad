"""Starting a program that waits, before its exec, to be seized."""

from posix.types cimport pid_t

# Forks; the child takes `fds` as its first three descriptors, goes to `cwd` (NULL: stays), lets this process and its
# descendants trace it (Yama), stops itself, and executes argv[0] when it is continued; 127 is its exit code where that
# fails. The child's pid once it has stopped, or -errno.
cdef pid_t child_start(char **argv, char **envp, const char *cwd, const int *fds) noexcept nogil
