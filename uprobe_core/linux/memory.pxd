"""A target's memory through /proc/PID/mem.

The descriptor stays bound to the address space that it was opened on: after an exec it reads 0 bytes, so a late write
cannot reach the new program. Writes go through page protection (FOLL_FORCE) and make a private copy of a file's page.
"""

from libc.errno cimport EFAULT, EINTR, EIO, errno
from libc.stdint cimport uint8_t, uint64_t
from posix.types cimport pid_t

from uprobe_core.linux.ptrace cimport iovec_t, syscall

cdef extern from "<unistd.h>" nogil:
    ssize_t pread64(int fd, void *buffer, size_t size, long offset)
    ssize_t pwrite64(int fd, const void *buffer, size_t size, long offset)

cdef extern from "<sys/syscall.h>" nogil:
    const long SYS_process_vm_readv
    const long SYS_process_vm_writev

cdef inline long memory_vector(long call, pid_t tid, uint64_t vaddr, void *buffer, size_t size) noexcept nogil:
    cdef iovec_t ours, theirs
    ours.iov_base = buffer
    ours.iov_len = size
    theirs.iov_base = <void *>vaddr
    theirs.iov_len = size
    return syscall(call, <long>tid, &ours, <long>1, &theirs, <long>1, <long>0)

# Reads exactly `size` bytes at `vaddr`: 0, or -errno; -EIO when the range is not all mapped.
cdef inline int memory_read(int mem_fd, uint64_t vaddr, void *buffer, size_t size) noexcept nogil:
    cdef ssize_t done
    cdef size_t total = 0
    while total < size:
        done = pread64(mem_fd, <uint8_t *>buffer + total, size - total, <long>(vaddr + total))
        if done < 0 and errno == EINTR:
            continue
        if done <= 0:
            return -errno if done < 0 else -EIO
        total += done
    return 0

# Reads up to `size` bytes: the number read (0 where nothing is mapped).
cdef inline ssize_t memory_read_some(int mem_fd, uint64_t vaddr, void *buffer, size_t size) noexcept nogil:
    cdef ssize_t done = pread64(mem_fd, buffer, size, <long>vaddr)
    return done if done > 0 else 0

# Writes exactly `size` bytes: 0, or -errno.
cdef inline int memory_write(int mem_fd, uint64_t vaddr, const void *buffer, size_t size) noexcept nogil:
    cdef ssize_t done
    cdef size_t total = 0
    while total < size:
        done = pwrite64(mem_fd, <const uint8_t *>buffer + total, size - total, <long>(vaddr + total))
        if done < 0 and errno == EINTR:
            continue
        if done <= 0:
            return -errno if done < 0 else -EIO
        total += done
    return 0


# As the target's own loads and stores would go: page protection counts, unlike with /proc/PID/mem.
cdef inline int memory_load(pid_t tid, uint64_t vaddr, void *buffer, size_t size) noexcept nogil:
    return 0 if memory_vector(SYS_process_vm_readv, tid, vaddr, buffer, size) == <long>size else -EFAULT

cdef inline int memory_store(pid_t tid, uint64_t vaddr, void *buffer, size_t size) noexcept nogil:
    return 0 if memory_vector(SYS_process_vm_writev, tid, vaddr, buffer, size) == <long>size else -EFAULT
