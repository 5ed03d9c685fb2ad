"""The first instruction: see start.pxd."""

from libc.errno cimport ESRCH
from libc.stdint cimport uint8_t, uint64_t

from uprobe_core.linux.memory cimport memory_read, memory_write
from uprobe_core.linux.ptrace cimport ip_get, ip_set, task_cont
from uprobe_core.linux.wait cimport SIGTRAP, stop_consume, stop_t, stop_wait_task
from uprobe_core.trace.engine cimport LOOP_ENDED
from uprobe_core.trace.loop cimport stop_serve

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
    if status == 0:
        # Kept for long: an unconsumed stop would be reported again and again. With the byte and ip put back nothing is
        # lost if we die now.
        status = stop_consume(engine.pid, &stop)
    return status


cdef int target_go(engine_t *engine) noexcept nogil:
    return <int>task_cont(engine.pid, 0)
