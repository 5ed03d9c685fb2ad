"""The task table: see tasks.pxd."""

from libc.errno cimport ENOMEM
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from posix.types cimport pid_t


cdef inline uint32_t tid_hash(const tasks_t *tasks, pid_t tid) noexcept nogil:
    # The kernel hands out tids in sequence: they are their own best hash.
    return <uint32_t>tid & tasks.mask


cdef int tasks_make(tasks_t *tasks) noexcept nogil:
    tasks.count = 0
    tasks.mask = 63
    tasks.table = <task_t *>calloc(tasks.mask + 1, sizeof(task_t))
    return -ENOMEM if tasks.table == NULL else 0


cdef void tasks_drop(tasks_t *tasks) noexcept nogil:
    free(tasks.table)
    tasks.table = NULL
    tasks.count = 0


cdef task_t *task_find(const tasks_t *tasks, pid_t tid) noexcept nogil:
    cdef uint32_t position = tid_hash(tasks, tid)
    while tasks.table[position].tid:
        if tasks.table[position].tid == tid:
            return &tasks.table[position]
        position = (position + 1) & tasks.mask
    return NULL


cdef int tasks_grow(tasks_t *tasks) noexcept nogil:
    cdef task_t *before = tasks.table
    cdef uint32_t size = tasks.mask + 1
    cdef uint32_t i, position
    tasks.table = <task_t *>calloc(<size_t>size * 2, sizeof(task_t))
    if tasks.table == NULL:
        tasks.table = before
        return -ENOMEM
    tasks.mask = size * 2 - 1
    for i in range(size):
        if before[i].tid:
            position = tid_hash(tasks, before[i].tid)
            while tasks.table[position].tid:
                position = (position + 1) & tasks.mask
            tasks.table[position] = before[i]
    free(before)
    return 0


cdef task_t *task_add(tasks_t *tasks, pid_t tid) noexcept nogil:
    cdef task_t *task = task_find(tasks, tid)
    cdef uint32_t position
    if task != NULL:
        return task
    if tasks.count * 2 >= tasks.mask and tasks_grow(tasks) < 0:
        return NULL
    position = tid_hash(tasks, tid)
    while tasks.table[position].tid:
        position = (position + 1) & tasks.mask
    task = &tasks.table[position]
    memset(task, 0, sizeof(task_t))
    task.tid = tid
    tasks.count += 1
    return task


cdef void task_remove(tasks_t *tasks, pid_t tid) noexcept nogil:
    cdef task_t *task = task_find(tasks, tid)
    cdef uint32_t hole, position, home
    if task == NULL:
        return
    tasks.count -= 1
    hole = <uint32_t>(task - tasks.table)
    position = hole
    # Close the gap: an entry moves back unless its home lies after the hole.
    while True:
        tasks.table[hole].tid = 0
        while True:
            position = (position + 1) & tasks.mask
            if tasks.table[position].tid == 0:
                return
            home = tid_hash(tasks, tasks.table[position].tid)
            if (position - home) & tasks.mask >= (position - hole) & tasks.mask:
                break
        tasks.table[hole] = tasks.table[position]
        hole = position


cdef void tasks_keep(tasks_t *tasks, pid_t tid) noexcept nogil:
    cdef uint32_t i = 0
    while i <= tasks.mask:
        if tasks.table[i].tid == 0 or tasks.table[i].flags & TASK_FOREIGN:
            i += 1
        elif tasks.table[i].tid == tid:
            tasks.table[i].flags = 0
            i += 1
        else:
            # Removing closes the gap: the same place is looked at again.
            task_remove(tasks, tasks.table[i].tid)
