"""The first instruction: see start.pxd."""

from libc.errno cimport ESRCH
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from uprobe_core.linux.memory cimport memory_read, memory_write
from uprobe_core.linux.ptrace cimport ip_get, ip_set, task_cont, task_interrupt
from uprobe_core.linux.wait cimport SIGTRAP, stop_t, stop_wait_task
from uprobe_core.trace.engine cimport LOOP_ENDED
from uprobe_core.trace.loop cimport stop_serve
from uprobe_core.trace.tasks cimport TASK_KEPT, task_find, task_t
from uprobe_core.trace.world cimport task_keep

cdef enum:
    BREAKPOINT = 0xcc


cdef int target_run_to(engine_t *engine, uint64_t vaddr) noexcept nogil:
    cdef stop_t stop
    cdef uint8_t before
    cdef uint8_t breakpoint = BREAKPOINT
    cdef uint64_t ip = 0
    cdef int status = memory_read(engine.text.mem_fd, vaddr, &before, 1)
    if status == 0:
        status = memory_write(engine.text.mem_fd, vaddr, &breakpoint, 1)
    if status == 0:
        status = <int>task_cont(engine.pid, 0)
    while status == 0:
        status = stop_wait_task(engine.pid, &stop)
        if status < 0:
            return status
        if stop.status == SIGTRAP and ip_get(engine.pid, &ip) == 0 and ip == vaddr + 1:
            break
        status = stop_serve(engine, &stop)
        if status == LOOP_ENDED:
            return -ESRCH
    if status == 0:
        status = memory_write(engine.text.mem_fd, vaddr, &before, 1)
    if status == 0:
        status = <int>ip_set(engine.pid, vaddr)
    # From the breakpoint's signal stop to a stop of ours, from which system calls can be made.
    if status == 0:
        status = <int>task_interrupt(engine.pid)
    if status == 0:
        status = <int>task_cont(engine.pid, 0)
    return status if status < 0 else task_keep(engine, engine.pid)


cdef int target_go(engine_t *engine) noexcept nogil:
    cdef task_t *task = task_find(&engine.tasks, engine.pid)
    if task != NULL:
        task.flags &= ~<uint32_t>TASK_KEPT
    return <int>task_cont(engine.pid, 0)
