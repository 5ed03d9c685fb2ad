"""The stopped world: see scene.pxd."""

from libc.errno cimport ENOMEM
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from uprobe_core.abi cimport regs_t
from uprobe_core.linux.maps cimport map_t, maps_drop, maps_find, maps_read
from uprobe_core.linux.memory cimport memory_read_some
from uprobe_core.linux.ptrace cimport regs_get
from uprobe_core.patch.jump_areas cimport UNIT_FREE, UNIT_TAKEN, jump_owner_at
from uprobe_core.patch.windows cimport (
    TRAMPOLINE_NONE, WINDOW_BUSY, WINDOW_FRESH, WINDOW_NONE, window_at, window_t,
)
from uprobe_core.x86.trampoline cimport trampoline_ip

cdef enum:
    RED_ZONE = 128
    PIECE_WORDS = 1 << 13
    PIECE = PIECE_WORDS * 8


cdef void scene_drop(scene_t *scene) noexcept nogil:
    free(scene.tasks)
    free(scene.used)
    maps_drop(&scene.maps)


cdef int scene_take(scene_t *scene, engine_t *engine) noexcept nogil:
    cdef regs_t regs
    cdef uint32_t i
    cdef int status = maps_read(&scene.maps, engine.pid)
    if status < 0:
        return status
    scene.count = 0
    scene.tasks = <standing_t *>calloc(engine.tasks.count + 1, sizeof(standing_t))
    scene.used = <uint8_t *>calloc(engine.text.jumps.windows.trampoline_count + 1, 1)
    if scene.tasks == NULL or scene.used == NULL:
        scene_drop(scene)
        return -ENOMEM
    for i in range(engine.tasks.mask + 1):
        if engine.tasks.table[i].tid and regs_get(engine.tasks.table[i].tid, &regs) == 0:
            scene.tasks[scene.count].tid = engine.tasks.table[i].tid
            scene.tasks[scene.count].ip = regs.rip
            scene.tasks[scene.count].sp = regs.rsp
            scene.tasks[scene.count].fs_base = regs.fs_base
            scene.count += 1
    return 0


cdef bint trampoline_look(scene_t *scene, engine_t *engine, uint64_t vaddr) noexcept nogil:
    """Somebody is at this address, or will be: whether it is in a trampoline."""
    cdef uint32_t number = jump_owner_at(&engine.text.jumps.areas, vaddr)
    if number == UNIT_FREE or number == UNIT_TAKEN:
        return False
    scene.used[number] = 1
    return True


cdef void word_look(scene_t *scene, engine_t *engine, uint64_t word) noexcept nogil:
    """What an address found on a stack leads to."""
    cdef uint32_t number
    cdef window_t *window
    if trampoline_look(scene, engine, word):
        return
    number = window_at(&engine.text.jumps.windows, word)
    if number == WINDOW_NONE:
        return
    window = &engine.text.jumps.windows.windows[number]
    # Between two instructions nobody returns; there it is some other number.
    if (window.state & WINDOW_FRESH and word != window.vaddr and window.pending != TRAMPOLINE_NONE
            and trampoline_ip(&engine.text.jumps.windows.trampolines[window.pending], word - window.vaddr)):
        window.state |= WINDOW_BUSY


cdef void stack_look(scene_t *scene, engine_t *engine, uint64_t start, uint64_t end) noexcept nogil:
    cdef uint64_t words[PIECE_WORDS]
    cdef uint64_t low = ~<uint64_t>0, high = 0
    cdef uint32_t count = engine.text.jumps.windows.count
    cdef ssize_t size, i
    start &= ~<uint64_t>7
    # Nearly all words are ruled out by these.
    if count:
        low = engine.text.jumps.windows.order[0].vaddr
        high = engine.text.jumps.windows.order[count - 1].vaddr + PIECE
    if engine.text.jumps.areas.count:
        low = min(low, engine.text.jumps.areas.low_vaddr)
        high = max(high, engine.text.jumps.areas.high_vaddr)
    while start < end:
        size = memory_read_some(engine.text.mem_fd, start, words, min(<uint64_t>PIECE, end - start))
        for i in range(size // 8):
            if low <= words[i] < high:
                word_look(scene, engine, words[i])
        # A page that cannot be read holds no stack.
        start += size if size > 0 else 4096 - start % 4096


cdef int scene_search(scene_t *scene, engine_t *engine) noexcept nogil:
    cdef const map_t *stack
    cdef const map_t *own
    cdef standing_t *task
    cdef uint32_t i
    for i in range(scene.count):
        task = &scene.tasks[i]
        trampoline_look(scene, engine, task.ip)
        stack = maps_find(&scene.maps, task.sp)
        if stack != NULL:
            stack_look(scene, engine, max(stack.start, task.sp - RED_ZONE), stack.end)
        # On an alternate stack: the thread's own, which has its descriptor at the top, or the first thread's.
        own = maps_find(&scene.maps, task.fs_base)
        if task.tid == engine.pid:
            if not scene.maps.stack.start <= task.sp < scene.maps.stack.end:
                stack_look(scene, engine, scene.maps.stack.start, scene.maps.stack.end)
        elif own != NULL and own != stack:
            stack_look(scene, engine, own.start, task.fs_base)
    return 0
