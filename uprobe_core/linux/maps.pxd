"""The mappings of a process, from /proc/PID/maps, without Python."""

from libc.stdint cimport uint32_t, uint64_t
from posix.types cimport pid_t

ctypedef struct map_t:
    uint64_t start, end

ctypedef struct maps_t:
    map_t *maps     # those that can be written to by the process, by rising address
    uint32_t count
    map_t stack     # of the first thread; empty where there is none

# Reads them. 0 or -errno; then there is nothing to drop.
cdef int maps_read(maps_t *maps, pid_t pid) noexcept nogil
cdef void maps_drop(maps_t *maps) noexcept nogil

# The writable mapping that has `vaddr`, or NULL.
cdef const map_t *maps_find(const maps_t *maps, uint64_t vaddr) noexcept nogil
