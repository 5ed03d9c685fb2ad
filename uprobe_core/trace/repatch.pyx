"""Changing windows: see repatch.pxd."""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from uprobe_core.abi cimport PLAN_ONE_STOP, WAY_JUMP
from uprobe_core.linux.memory cimport memory_read, memory_write
from uprobe_core.linux.ptrace cimport ip_set
from uprobe_core.linux.wait cimport SIGTRAP
from uprobe_core.patch.jumps cimport (
    trampoline_free, trampoline_is_idle, window_cancel, window_is_due, window_patch,
)
from uprobe_core.patch.sites cimport SITE_JUMP, SITE_LIVE, SITE_NONE, site_at, site_t
from uprobe_core.patch.text cimport text_arm
from uprobe_core.patch.jump_areas cimport jump_area_at
from uprobe_core.patch.windows cimport (
    LITERALS,    WINDOW_ARMED, WINDOW_BUSY, WINDOW_FRESH, WINDOW_LEAVING, WINDOW_NONE, jump_site_find, window_at, window_remove, window_t,
)
from uprobe_core.status cimport STATUS_TRY_AGAIN
from uprobe_core.trace.scene cimport scene_drop, scene_search, scene_t, scene_take
from uprobe_core.trace.tasks cimport task_find, task_t
from uprobe_core.trace.trampolines cimport in_trampoline, trampoline_finish
from uprobe_core.x86.trampoline cimport trampoline_ip

cdef enum:
    RSEQ_CS_OFF = 8  # struct rseq: the descriptor's address


cdef inline window_t *window_of(engine_t *engine, uint32_t number) noexcept nogil:
    return &engine.text.jumps.windows.windows[number]


cdef uint64_t ip_inside(engine_t *engine, uint64_t ip, uint32_t *number) noexcept nogil:
    """The offset of `ip` in a window that is about to get its jump, or 0: it is in none, or where the jump will be."""
    number[0] = window_at(&engine.text.jumps.windows, ip)
    if number[0] == WINDOW_NONE or not window_of(engine, number[0]).state & WINDOW_FRESH:
        return 0
    return ip - window_of(engine, number[0]).vaddr


cdef uint64_t ip_moved(engine_t *engine, uint32_t number, uint64_t offset) noexcept nogil:
    return trampoline_ip(&engine.text.jumps.windows.trampolines[window_of(engine, number).pending], offset)


cdef int tasks_move(engine_t *engine, scene_t *scene) noexcept nogil:
    """Tasks inside the bytes go to the same instruction in the trampoline, which does the same: they may go before the
    text changes, and a tracer that dies in between has done no harm."""
    cdef uint32_t i, number
    cdef uint64_t offset
    cdef int status = 0
    for i in range(scene.count):
        offset = ip_inside(engine, scene.tasks[i].ip, &number)
        if offset and not window_of(engine, number).state & WINDOW_BUSY:
            status = <int>ip_set(scene.tasks[i].tid, ip_moved(engine, number, offset))
            if status < 0:
                break
    return status


cdef int fresh_clear(engine_t *engine) noexcept nogil:
    """Brings every task out of the bytes of the windows that are about to get their jumps, or marks them busy."""
    cdef scene_t scene
    cdef uint32_t i, number
    cdef uint64_t offset
    cdef int status = scene_take(&scene, engine)
    if status < 0:
        return status
    status = scene_search(&scene, engine)
    for i in range(scene.count):
        offset = ip_inside(engine, scene.tasks[i].ip, &number)
        if offset and ip_moved(engine, number, offset) == 0:
            window_of(engine, number).state |= WINDOW_BUSY
    if status == 0:
        status = tasks_move(engine, &scene)
    scene_drop(&scene)
    return status


cdef int windows_apply(engine_t *engine, const uint32_t *windows, size_t count) noexcept nogil:
    cdef window_t *window
    cdef size_t i
    cdef bint fresh = False
    cdef int status = 0, one, outcome = 0
    for i in range(count):
        window = window_of(engine, windows[i])
        window.state &= ~<unsigned int>(WINDOW_BUSY | WINDOW_FRESH)
        if window_is_due(&engine.text.jumps, windows[i]) and not window.state & WINDOW_ARMED:
            window.state |= WINDOW_FRESH
            fresh = True
    if fresh:
        status = fresh_clear(engine)
    for i in range(count):
        window = window_of(engine, windows[i])
        if status == 0 and window_is_due(&engine.text.jumps, windows[i]):
            one = STATUS_TRY_AGAIN if window.state & WINDOW_BUSY else window_patch(&engine.text.jumps, windows[i])
            if one < 0:
                status = one
            elif one:
                outcome = one
        window.state &= ~<unsigned int>WINDOW_FRESH
    return status if status < 0 else outcome


cdef void window_release(engine_t *engine, window_t *window) noexcept nogil:
    """Its sites are its own no more: no patch is wanted there."""
    cdef uint32_t number = window.first
    while number != SITE_NONE:
        site_at(&engine.text.sites, number).state &= ~<uint64_t>SITE_JUMP
        number = jump_site_find(&engine.text.jumps.windows, number).next


cdef bint window_is_planned(engine_t *engine, const window_t *window) noexcept nogil:
    """Whether each of its sites has a plan for a stop."""
    cdef uint32_t number = window.first
    cdef const site_t *site
    while number != SITE_NONE:
        site = site_at(&engine.text.sites, number)
        if site.state & SITE_LIVE and site.plan == (PLAN_ONE_STOP | WAY_JUMP):
            return False
        number = jump_site_find(&engine.text.jumps.windows, number).next
    return True


cdef int windows_demote(engine_t *engine, const uint32_t *windows, size_t count) noexcept nogil:
    cdef window_t *window
    cdef site_t *site
    cdef uint32_t number
    cdef size_t i, done
    cdef int one, outcome = 0
    for i in range(count):
        window = window_of(engine, windows[i])
        window.state &= ~<unsigned int>WINDOW_LEAVING
        if not window_is_planned(engine, window):
            continue
        window_cancel(&engine.text.jumps, windows[i])
        window_release(engine, window)
        if window_is_due(&engine.text.jumps, windows[i]):
            one = window_patch(&engine.text.jumps, windows[i])
            if one < 0:
                return one
            outcome = max(outcome, one)
        number = window.first
        while number != SITE_NONE:
            site = site_at(&engine.text.sites, number)
            if site.state & SITE_LIVE and site.armers:
                one = text_arm(&engine.text, &number, 1, &done)
                if one < 0:
                    return one
                outcome = max(outcome, one)
            number = jump_site_find(&engine.text.jumps.windows, number).next
        window_remove(&engine.text.jumps.windows, windows[i])
    return outcome


cdef void sequences_forget(engine_t *engine, scene_t *scene) noexcept nogil:
    """The kernel looks at a sequence's descriptor when its thread is next preempted, though it has long left the sequence,
    and raises a fault where it finds no descriptor. So none may lead to what is about to be freed."""
    cdef uint64_t vaddr, descriptor
    cdef uint64_t nothing = 0
    cdef uint32_t i
    if not engine.text.jumps.windows.board.common.has_rseq:
        return
    for i in range(scene.count):
        vaddr = scene.tasks[i].fs_base + <uint64_t><long>engine.text.jumps.windows.board.common.rseq_offset + RSEQ_CS_OFF
        if (memory_read(engine.text.mem_fd, vaddr, &descriptor, 8) == 0
                and jump_area_at(&engine.text.jumps.areas, descriptor) != NULL
                and not in_trampoline(engine, scene.tasks[i].ip)):
            memory_write(engine.text.mem_fd, vaddr, &nothing, 8)


cdef int idle_free(engine_t *engine, scene_t *scene) noexcept nogil:
    cdef uint32_t number
    cdef int freed = 0
    for number in range(engine.text.jumps.windows.trampoline_count):
        if trampoline_is_idle(&engine.text.jumps, number) and not scene.used[number]:
            trampoline_free(&engine.text.jumps, number)
            freed += 1
    return freed


cdef int trampolines_reclaim(engine_t *engine) noexcept nogil:
    cdef scene_t scene
    cdef int status = scene_take(&scene, engine)
    if status < 0:
        return status
    status = scene_search(&scene, engine)
    if status == 0:
        sequences_forget(engine, &scene)
        status = idle_free(engine, &scene)
    scene_drop(&scene)
    return status


cdef void gates_close(engine_t *engine) noexcept nogil:
    cdef uint64_t closed[LITERALS]
    cdef uint32_t i
    memset(closed, 0, sizeof(closed))
    for i in range(engine.text.jumps.areas.count):
        memory_write(engine.text.mem_fd, engine.text.jumps.areas.areas[i].gate_vaddr, closed, sizeof(closed))


cdef void tasks_out(engine_t *engine) noexcept nogil:
    cdef scene_t scene
    cdef task_t *task
    cdef uint32_t i
    if scene_take(&scene, engine) < 0:
        return
    for i in range(scene.count):
        task = task_find(&engine.tasks, scene.tasks[i].tid)
        # A task in a group stop would have to be woken for it.
        if task != NULL and in_trampoline(engine, scene.tasks[i].ip) and task.status & 0xff == SIGTRAP:
            trampoline_finish(engine, task, True)
    scene_drop(&scene)


cdef bint windows_are_armed(const engine_t *engine) noexcept nogil:
    cdef uint32_t i
    for i in range(engine.text.jumps.windows.count):
        if engine.text.jumps.windows.windows[engine.text.jumps.windows.order[i].window].state & WINDOW_ARMED:
            return True
    return False


cdef bint windows_leave(engine_t *engine) noexcept nogil:
    cdef scene_t scene
    cdef uint32_t number, i
    cdef bint clear
    if engine.text.jumps.areas.count == 0:
        return True
    for i in range(engine.text.jumps.windows.count):
        number = engine.text.jumps.windows.order[i].window
        window_cancel(&engine.text.jumps, number)
        window_release(engine, window_of(engine, number))
        if window_is_due(&engine.text.jumps, number):
            window_patch(&engine.text.jumps, number)
    clear = not windows_are_armed(engine)
    gates_close(engine)
    tasks_out(engine)
    if scene_take(&scene, engine) < 0:
        return False
    if scene_search(&scene, engine) == 0:
        sequences_forget(engine, &scene)
        idle_free(engine, &scene)
    for number in range(engine.text.jumps.windows.trampoline_count):
        clear = clear and engine.text.jumps.windows.trampolines[number].size == 0
    scene_drop(&scene)
    return clear
