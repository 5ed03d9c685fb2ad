"""Text that changes hands: see copies.pxd."""

from libc.errno cimport ENOMEM
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memcpy

from uprobe_core.linux.memory cimport memory_read_some, memory_write
from uprobe_core.patch.arenas cimport arena_add, arena_t
from uprobe_core.patch.sites cimport SITE_ARMED, SITE_GONE, SITE_TAPPED, site_add, site_at, site_forget, site_t

cdef enum:
    BREAKPOINT = 0xcc
    PAGE = 4096


cdef int text_copy(text_t *text, const text_t *other) noexcept nogil:
    cdef uint32_t i, number
    cdef const arena_t *arena
    cdef site_t *site
    for i in range(other.arenas.count):
        arena = &other.arenas.arenas[i]
        if arena_add(&text.arenas, arena.vaddr, arena.size, arena.sealed) < 0:
            return -ENOMEM
        memcpy(text.arenas.arenas[i].slots.free_words, arena.slots.free_words,
               arena.slots.word_count * sizeof(uint64_t))
        text.arenas.arenas[i].slots.free_count = arena.slots.free_count
        text.arenas.arenas[i].slots.hint = 0
    for i in range(other.sites.count):
        if site_add(&text.sites, site_at(&other.sites, i).vaddr, &number) < 0:
            return -ENOMEM
        site = site_at(&text.sites, number)
        site[0] = site_at(&other.sites, i)[0]
        site.hits = 0
        site.state &= ~<uint64_t>SITE_TAPPED  # what is recorded of the other process stays there
    if other.orphan_count:
        text.orphans = <uint32_t *>malloc(other.orphan_count * sizeof(uint32_t))
        if text.orphans == NULL:
            return -ENOMEM
        memcpy(text.orphans, other.orphans, other.orphan_count * sizeof(uint32_t))
        text.orphan_count = text.orphan_room = other.orphan_count
    return 0


cdef int text_match(text_t *text, int mem_fd, bint arm) noexcept nogil:
    cdef uint8_t page[PAGE]
    cdef uint64_t page_vaddr = 1  # none
    cdef ssize_t size = 0
    cdef site_t *site
    cdef uint32_t number
    cdef uint8_t wanted, there
    cdef int status, written = 0
    for number in range(text.sites.count):
        site = site_at(&text.sites, number)
        if site.vaddr & ~<uint64_t>(PAGE - 1) != page_vaddr:
            page_vaddr = site.vaddr & ~<uint64_t>(PAGE - 1)
            size = memory_read_some(mem_fd, page_vaddr, page, PAGE)
        if <ssize_t>(site.vaddr - page_vaddr) >= size:
            continue
        there = page[site.vaddr - page_vaddr]
        wanted = BREAKPOINT if arm and site.state & SITE_ARMED else site.original[0]
        if site.state & SITE_GONE:
            continue
        # What is neither ours nor the original is somebody else's.
        if there != wanted and (there == BREAKPOINT or there == site.original[0]):
            status = memory_write(mem_fd, site.vaddr, &wanted, 1)
            written = status if status < 0 else written + (written >= 0)
    return written


cdef uint32_t text_forget(text_t *text, uint64_t low, uint64_t high) noexcept nogil:
    cdef site_t *site
    cdef uint32_t number, count = 0
    for number in range(text.sites.count):
        site = site_at(&text.sites, number)
        if low <= site.vaddr < high and not site.state & SITE_GONE:
            site_forget(site)
            count += 1
    return count
