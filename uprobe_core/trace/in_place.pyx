"""Stepping in place: see in_place.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from uprobe_core.abi cimport STEP_REPEAT, insn_t
from uprobe_core.linux.memory cimport memory_write
from uprobe_core.linux.ptrace cimport ip_get, ip_set, task_cont, task_step
from uprobe_core.linux.wait cimport SIGTRAP, stop_t, stop_wait_task
from uprobe_core.patch.sites cimport SITE_ARMED, site_at, site_t
from uprobe_core.trace.tasks cimport TASK_HELD, task_find, task_t
from uprobe_core.trace.world cimport world_resume, world_stop
from uprobe_core.x86.decode cimport insn_decode

cdef enum:
    BREAKPOINT = 0xcc
    PATIENCE_MS = 1000


cdef int original_step(engine_t *engine, task_t *task, site_t *site, stop_t *stop) noexcept nogil:
    cdef uint8_t breakpoint = BREAKPOINT
    cdef insn_t insn
    cdef bint repeats = (insn_decode(site.original, site.length, site.vaddr, engine.text.decode_options, &insn) == 0
                         and insn.step == STEP_REPEAT)
    cdef uint64_t ip
    cdef long status = memory_write(engine.text.mem_fd, site.vaddr, site.original, 1)
    if status == 0:
        status = ip_set(task.tid, site.vaddr)
    while status == 0:
        status = task_step(task.tid, 0)
        if status == 0:
            status = stop_wait_task(task.tid, stop)
        # A repeated string instruction traps after each iteration, with ip unchanged until the last.
        if status < 0 or stop.status != SIGTRAP or not repeats or ip_get(task.tid, &ip) < 0 or ip != site.vaddr:
            break
    if site.state & SITE_ARMED:
        memory_write(engine.text.mem_fd, site.vaddr, &breakpoint, 1)
    return <int>status


cdef int step_in_place(engine_t *engine) noexcept nogil:
    cdef task_t *task = task_find(&engine.tasks, engine.hit_tid)
    cdef site_t *site = site_at(&engine.text.sites, engine.hit_site)
    cdef stop_t stop
    cdef int status
    stop.status = 0
    if task == NULL:
        return 0
    task.flags |= TASK_HELD  # it stands still already
    world_stop(engine, PATIENCE_MS)
    task = task_find(&engine.tasks, engine.hit_tid)
    if task == NULL:
        world_resume(engine)
        return 0
    status = original_step(engine, task, site, &stop)
    task.flags &= ~<uint32_t>TASK_HELD
    if status == 0 and stop.status == SIGTRAP:
        status = <int>task_cont(task.tid, 0)
    # A fault, or its end: the loop finds the stop as it is.
    world_resume(engine)
    return status
