"""Windows: see windows.pxd."""

from libc.errno cimport ENOMEM
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, qsort, realloc
from libc.string cimport memcpy, memmove, memset

from uprobe_core.linux.journal cimport RECORD_UNNUMBERED
from uprobe_core.patch.sites cimport CHUNK_COUNT, CHUNK_SHIFT, CHUNK_SITES, SITE_NONE, site_at, site_t, sites_t
from uprobe_core.status cimport STATUS_NO_ROOM

cdef enum:
    CELL_SIZE = 8


cdef void windows_drop(windows_t *windows) noexcept nogil:
    cdef int chunk
    if windows.chunks != NULL:
        for chunk in range(CHUNK_COUNT):
            free(windows.chunks[chunk])
    free(windows.chunks)
    free(windows.windows)
    free(windows.order)
    free(windows.trampolines)
    free(windows.trampoline_window)
    memset(windows, 0, sizeof(windows_t))


cdef int by_address(const void *left, const void *right) noexcept nogil:
    cdef uint64_t one = (<const window_index_t *>left).vaddr, other = (<const window_index_t *>right).vaddr
    return -1 if one < other else one > other


cdef int windows_grow(windows_t *windows) noexcept nogil:
    cdef uint32_t room = windows.room * 2 + 256
    cdef void *grown = realloc(windows.windows, room * sizeof(window_t))
    if grown == NULL:
        return -ENOMEM
    windows.windows = <window_t *>grown
    grown = realloc(windows.order, room * sizeof(window_index_t))
    if grown == NULL:
        return -ENOMEM
    windows.order = <window_index_t *>grown
    windows.room = room
    return 0


cdef int window_add(windows_t *windows, uint64_t vaddr, const uint8_t *original, uint8_t length, uint32_t *number) noexcept nogil:
    cdef window_t *window
    if windows.made == windows.room and windows_grow(windows) < 0:
        return -ENOMEM
    number[0] = windows.made
    window = &windows.windows[windows.made]
    memset(window, 0, sizeof(window_t))
    window.vaddr = vaddr
    window.length = length
    memcpy(window.original, original, length)
    window.first = SITE_NONE
    window.trampoline = window.pending = TRAMPOLINE_NONE
    window.record = RECORD_UNNUMBERED
    windows.order[windows.count].vaddr = vaddr
    windows.order[windows.count].window = windows.made
    windows.count += 1
    windows.made += 1
    # Insertions come by rising address: most of the time there is nothing to sort.
    if windows.count > 1 and windows.order[windows.count - 2].vaddr > vaddr:
        qsort(windows.order, windows.count, sizeof(window_index_t), by_address)
    return 0


cdef void window_remove(windows_t *windows, uint32_t number) noexcept nogil:
    cdef uint32_t place = window_after(windows, windows.windows[number].vaddr)
    window_unlink(windows, number)
    if place < windows.count and windows.order[place].window == number:
        windows.count -= 1
        memmove(&windows.order[place], &windows.order[place + 1], (windows.count - place) * sizeof(window_index_t))


cdef uint32_t window_after(const windows_t *windows, uint64_t vaddr) noexcept nogil:
    cdef uint32_t low = 0, high = windows.count, middle
    cdef const window_t *window
    while low < high:
        middle = (low + high) // 2
        window = &windows.windows[windows.order[middle].window]
        if window.vaddr + window.length <= vaddr:
            low = middle + 1
        else:
            high = middle
    return low


cdef uint32_t window_at(const windows_t *windows, uint64_t vaddr) noexcept nogil:
    cdef uint32_t place = window_after(windows, vaddr)
    if place == windows.count or windows.order[place].vaddr > vaddr:
        return WINDOW_NONE
    return windows.order[place].window


cdef jump_site_t *jump_site_find(const windows_t *windows, uint32_t number) noexcept nogil:
    if windows.chunks == NULL or windows.chunks[number >> CHUNK_SHIFT] == NULL:
        return NULL
    return &windows.chunks[number >> CHUNK_SHIFT][number & (CHUNK_SITES - 1)]


cdef jump_site_t *jump_site_make(windows_t *windows, uint32_t number) noexcept nogil:
    cdef jump_site_t *chunk
    cdef int i
    if windows.chunks == NULL:
        windows.chunks = <jump_site_t **>calloc(CHUNK_COUNT, sizeof(jump_site_t *))
        if windows.chunks == NULL:
            return NULL
    if windows.chunks[number >> CHUNK_SHIFT] == NULL:
        chunk = <jump_site_t *>calloc(CHUNK_SITES, sizeof(jump_site_t))
        if chunk == NULL:
            return NULL
        for i in range(CHUNK_SITES):
            chunk[i].window = WINDOW_NONE
            chunk[i].next = SITE_NONE
            chunk[i].cell = CELL_NONE
        windows.chunks[number >> CHUNK_SHIFT] = chunk
    return jump_site_find(windows, number)


cdef int jump_site_link(windows_t *windows, uint32_t number, uint32_t window, uint8_t offset,
                        const freedom_t *freedom) noexcept nogil:
    cdef jump_site_t *made = jump_site_make(windows, number)
    cdef uint32_t *link = &windows.windows[window].first
    if made == NULL:
        return -ENOMEM
    if made.cell == CELL_NONE:
        if windows.board.used == windows.board.cells:
            return STATUS_NO_ROOM
        made.cell = windows.board.used
        windows.board.used += 1
    made.offset = offset
    made.freedom = freedom[0]
    if made.window == window:
        return 0
    made.window = window
    while link[0] != SITE_NONE and jump_site_find(windows, link[0]).offset < offset:
        link = &jump_site_find(windows, link[0]).next
    made.next = link[0]
    link[0] = number
    return 0


cdef void window_unlink(windows_t *windows, uint32_t window) noexcept nogil:
    cdef uint32_t number = windows.windows[window].first
    cdef jump_site_t *site
    windows.windows[window].first = SITE_NONE
    while number != SITE_NONE:
        site = jump_site_find(windows, number)
        number = site.next
        site.window = WINDOW_NONE
        site.next = SITE_NONE


cdef int trampoline_add(windows_t *windows, uint32_t window, uint32_t *number) noexcept nogil:
    cdef uint32_t room = windows.trampoline_room * 2 + 256
    cdef uint32_t i
    cdef void *grown
    if windows.trampoline_free:
        # Rare enough to look for it: trampolines are freed in batches and used again in batches.
        for i in range(windows.trampoline_count):
            if windows.trampolines[i].size == 0:
                windows.trampoline_free -= 1
                windows.trampoline_window[i] = window
                number[0] = i
                return 0
    if windows.trampoline_count == windows.trampoline_room:
        grown = realloc(windows.trampolines, room * sizeof(trampoline_t))
        if grown == NULL:
            return -ENOMEM
        windows.trampolines = <trampoline_t *>grown
        grown = realloc(windows.trampoline_window, room * sizeof(uint32_t))
        if grown == NULL:
            return -ENOMEM
        windows.trampoline_window = <uint32_t *>grown
        windows.trampoline_room = room
    number[0] = windows.trampoline_count
    windows.trampoline_window[number[0]] = window
    windows.trampoline_count += 1
    return 0


cdef void trampoline_remove(windows_t *windows, uint32_t number) noexcept nogil:
    memset(&windows.trampolines[number], 0, sizeof(trampoline_t))
    windows.trampoline_window[number] = WINDOW_NONE
    windows.trampoline_free += 1


cdef int jump_tap_tie(windows_t *windows, uint32_t number, const hitcode_t *code, uint16_t literal) noexcept nogil:
    cdef jump_site_t *site = jump_site_find(windows, number)
    if site == NULL or site.tap_count == JUMP_TAPS:
        return STATUS_NO_ROOM
    site.taps[site.tap_count].code = code
    site.taps[site.tap_count].literal = literal
    site.tap_count += 1
    return 0


cdef void jump_tap_untie(windows_t *windows, uint32_t number, const hitcode_t *code) noexcept nogil:
    cdef jump_site_t *site = jump_site_find(windows, number)
    cdef uint32_t i
    if site == NULL:
        return
    for i in range(site.tap_count):
        if site.taps[i].code == code:
            site.tap_count -= 1
            site.taps[i] = site.taps[site.tap_count]
            return


cdef uint64_t jump_hits(const windows_t *windows, uint32_t number) noexcept nogil:
    cdef const jump_site_t *site = jump_site_find(windows, number)
    cdef const uint8_t *cell
    cdef uint64_t total = 0, value
    cdef uint32_t i
    if site == NULL or site.cell == CELL_NONE or windows.board.bytes == NULL:
        return 0
    for i in range(windows.board.processors):
        cell = windows.board.bytes + (<uint64_t>i << windows.board.shift) + <uint64_t>site.cell * CELL_SIZE
        memcpy(&value, cell, CELL_SIZE)
        total += value
    return total


cdef void jump_hits_fold(windows_t *windows, const sites_t *sites) noexcept nogil:
    cdef uint32_t number
    cdef jump_site_t *jump
    for number in range(sites.count):
        jump = jump_site_find(windows, number)
        if jump != NULL and jump.cell != CELL_NONE:
            site_at(sites, number).hits += jump_hits(windows, number)
            jump.cell = CELL_NONE
    memset(&windows.board, 0, sizeof(board_t))
