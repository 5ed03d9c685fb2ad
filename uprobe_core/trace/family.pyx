"""Families: see family.pxd."""

from posix.types cimport pid_t

from uprobe_core.trace.tasks cimport task_find


cdef void family_join(engine_t *engine) noexcept nogil:
    engine.next = engine.family.first
    engine.family.first = engine


cdef void family_leave(engine_t *engine) noexcept nogil:
    cdef engine_t **place = &engine.family.first
    while place[0] != NULL and place[0] != engine:
        place = &place[0].next
    if place[0] == engine:
        place[0] = engine.next
    if engine.family.current == engine:
        engine.family.current = NULL


cdef engine_t *family_find(family_t *family, pid_t tid) noexcept nogil:
    cdef engine_t *engine = family.first
    while engine != NULL:
        if task_find(&engine.tasks, tid) != NULL:
            return engine
        engine = engine.next
    return family_member(family, tid)


cdef engine_t *family_member(family_t *family, pid_t pid) noexcept nogil:
    cdef engine_t *engine = family.first
    while engine != NULL and engine.pid != pid:
        engine = engine.next
    return engine
