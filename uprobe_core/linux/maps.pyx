"""Mappings: see maps.pxd."""

from libc.errno cimport ENOMEM, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdio cimport FILE, fclose, snprintf
from libc.stdlib cimport free, realloc, strtoull
from libc.string cimport strstr
from posix.types cimport pid_t

cdef extern from "<stdio.h>" nogil:
    FILE *fopen(const char *path, const char *mode)
    ssize_t getline(char **line, size_t *size, FILE *stream)


cdef int maps_append(maps_t *maps, uint64_t start, uint64_t end, uint32_t *room) noexcept nogil:
    cdef void *grown
    if maps.count and maps.maps[maps.count - 1].end == start:
        maps.maps[maps.count - 1].end = end
        return 0
    if maps.count == room[0]:
        room[0] = room[0] * 2 + 64
        grown = realloc(maps.maps, room[0] * sizeof(map_t))
        if grown == NULL:
            return -ENOMEM
        maps.maps = <map_t *>grown
    maps.maps[maps.count].start = start
    maps.maps[maps.count].end = end
    maps.count += 1
    return 0


cdef int maps_read(maps_t *maps, pid_t pid) noexcept nogil:
    cdef char path[64]
    cdef char *line = NULL
    cdef char *at
    cdef size_t size = 0
    cdef uint64_t start, end
    cdef uint32_t room = 0
    cdef int status = 0
    cdef FILE *stream
    maps.maps = NULL
    maps.count = 0
    maps.stack.start = maps.stack.end = 0
    snprintf(path, sizeof(path), b"/proc/%d/maps", pid)
    stream = fopen(path, b"re")
    if stream == NULL:
        return -errno
    # START-END rwxp …
    while status == 0 and getline(&line, &size, stream) > 0:
        start = strtoull(line, &at, 16)
        if at[0] != b'-':
            continue
        end = strtoull(at + 1, &at, 16)
        if at[0] == b' ' and at[1] == b'r' and at[2] == b'w':
            status = maps_append(maps, start, end, &room)
            if strstr(at, b"[stack]") != NULL:
                maps.stack.start = start
                maps.stack.end = end
    free(line)
    fclose(stream)
    if status < 0:
        maps_drop(maps)
    return status


cdef void maps_drop(maps_t *maps) noexcept nogil:
    free(maps.maps)
    maps.maps = NULL
    maps.count = 0


cdef const map_t *maps_find(const maps_t *maps, uint64_t vaddr) noexcept nogil:
    cdef uint32_t low = 0, high = maps.count, middle
    while low < high:
        middle = (low + high) // 2
        if maps.maps[middle].end <= vaddr:
            low = middle + 1
        else:
            high = middle
    return &maps.maps[low] if low < maps.count and maps.maps[low].start <= vaddr else NULL
