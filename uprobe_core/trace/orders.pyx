"""The tracer's orders: see orders.pxd."""

from uprobe_core.linux.memory cimport memory_write
from uprobe_core.linux.remote_call cimport remote_begin, remote_end, remote_syscall, remote_t
from uprobe_core.patch.copies cimport text_forget
from uprobe_core.patch.sites cimport site_at
from uprobe_core.patch.text cimport text_arm, text_disarm, text_insert, text_rewrite
from uprobe_core.trace.children cimport child_adopt
from uprobe_core.trace.engine cimport LOOP_BELL, LOOP_IN_PLACE, family_t
from uprobe_core.trace.family cimport family_leave
from uprobe_core.trace.hit cimport hit_resume
from uprobe_core.trace.in_place cimport step_in_place
from uprobe_core.trace.loop cimport loop_run
from uprobe_core.trace.start cimport target_go, target_run_to
from uprobe_core.trace.tasks cimport task_find, task_t
from uprobe_core.trace.world cimport (
    calls_serve, engine_leave, slots_reclaim, task_halt, task_release, world_resume, world_seize, world_stop,
)


cdef int order_seize(void *argument) noexcept nogil:
    return world_seize((<order_t *>argument).engine)


cdef int order_run(void *argument) noexcept nogil:
    cdef family_t *family = (<order_t *>argument).engine.family
    cdef int status = loop_run(family)
    while status == LOOP_IN_PLACE:
        status = step_in_place(family.current)
        if status == 0:
            status = loop_run(family)
    if status == LOOP_BELL:
        calls_serve(family)
    return status


cdef int order_resume(void *argument) noexcept nogil:
    """Sends the task at the hit on its way."""
    cdef order_t *order = <order_t *>argument
    cdef engine_t *engine = order.engine
    cdef task_t *task = task_find(&engine.tasks, engine.hit_tid)
    cdef int status
    if task == NULL:
        return 0
    status = hit_resume(engine, task, site_at(&engine.text.sites, engine.hit_site), order.regs)
    return step_in_place(engine) if status == LOOP_IN_PLACE else status


cdef int order_insert(void *argument) noexcept nogil:
    cdef order_t *order = <order_t *>argument
    return text_insert(&order.engine.text, order.insertions, order.count, order.mode, order.strategy, order.near,
                       &order.image)


cdef int order_rewrite(void *argument) noexcept nogil:
    cdef order_t *order = <order_t *>argument
    return text_rewrite(&order.engine.text, order.vaddr, order.vaddr + order.count)


cdef int order_arm(void *argument) noexcept nogil:
    cdef order_t *order = <order_t *>argument
    return text_arm(&order.engine.text, order.sites, order.count, &order.done)


cdef int order_disarm(void *argument) noexcept nogil:
    cdef order_t *order = <order_t *>argument
    return text_disarm(&order.engine.text, order.sites, order.count, &order.done)


cdef int order_call(void *argument) noexcept nogil:
    cdef order_t *order = <order_t *>argument
    cdef engine_t *engine = order.engine
    cdef remote_t remote
    cdef int status, ended
    status = task_halt(engine, order.tid, order.deadline_ms)
    if status < 0:
        return status
    status = remote_begin(&remote, engine.pid, order.tid, order.vaddr)
    if status == 0:
        status = remote_syscall(&remote, order.number, order.arguments, &order.result)
        ended = remote_end(&remote, engine.pid)
        status = min(status, ended)
    ended = task_release(engine, order.tid)
    return min(status, ended)


cdef int order_reclaim(void *argument) noexcept nogil:
    cdef order_t *order = <order_t *>argument
    return slots_reclaim(order.engine, order.deadline_ms)


cdef int order_stop(void *argument) noexcept nogil:
    cdef order_t *order = <order_t *>argument
    return world_stop(order.engine, order.deadline_ms)


cdef int order_go(void *argument) noexcept nogil:
    return world_resume((<order_t *>argument).engine)


cdef int order_leave(void *argument) noexcept nogil:
    cdef engine_t *engine = (<order_t *>argument).engine
    cdef family_t *family = engine.family
    cdef int status = engine_leave(engine, family.first == engine and engine.next == NULL)
    family_leave(engine)
    return status


cdef int order_adopt(void *argument) noexcept nogil:
    return child_adopt((<order_t *>argument).engine)


cdef int order_forget(void *argument) noexcept nogil:
    cdef order_t *order = <order_t *>argument
    return <int>text_forget(&order.engine.text, order.vaddr, order.vaddr + order.count)


cdef int order_run_to(void *argument) noexcept nogil:
    cdef order_t *order = <order_t *>argument
    return target_run_to(order.engine, order.vaddr)


cdef int order_set_off(void *argument) noexcept nogil:
    return target_go((<order_t *>argument).engine)


cdef int order_write(void *argument) noexcept nogil:
    cdef order_t *order = <order_t *>argument
    return memory_write(order.engine.text.mem_fd, order.vaddr, order.buffer, order.count)


cdef int family_orphaned(void *argument) noexcept nogil:
    cdef engine_t *engine = (<family_t *>argument).first
    cdef int status = 0
    while engine != NULL:
        # The tracer ends at once, and with it the tracing of all that sleep.
        status = min(status, engine_leave(engine, True))
        engine = engine.next
    return status
