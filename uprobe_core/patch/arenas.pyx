"""Arenas: see arenas.pxd."""

from libc.errno cimport ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from uprobe_core.abi cimport SLOT_SIZE
from uprobe_core.patch.sites cimport SLOT_NONE
from uprobe_core.patch.slots cimport slot_put, slot_take, slots_drop, slots_make


cdef int arenas_make(arenas_t *arenas) noexcept nogil:
    arenas.count = 0
    arenas.low_vaddr = ~<uint64_t>0
    arenas.high_vaddr = 0
    arenas.arenas = <arena_t *>calloc(ARENA_MAX, sizeof(arena_t))
    return -ENOMEM if arenas.arenas == NULL else 0


cdef void arenas_drop(arenas_t *arenas) noexcept nogil:
    cdef uint32_t i
    for i in range(arenas.count):
        slots_drop(&arenas.arenas[i].slots)
    free(arenas.arenas)
    arenas.arenas = NULL
    arenas.count = 0


cdef int arena_add(arenas_t *arenas, uint64_t vaddr, uint64_t size, bint sealed) noexcept nogil:
    cdef arena_t *arena
    cdef uint64_t slots = size // SLOT_SIZE
    if arenas.count == ARENA_MAX or slots > ARENA_SLOT_MAX:
        return -ENOMEM
    arena = &arenas.arenas[arenas.count]
    if slots_make(&arena.slots, <uint32_t>slots) < 0:
        return -ENOMEM
    arena.vaddr = vaddr
    arena.size = size
    arena.sealed = sealed
    arenas.count += 1
    arenas.low_vaddr = min(arenas.low_vaddr, vaddr)
    arenas.high_vaddr = max(arenas.high_vaddr, vaddr + size)
    return 0


cdef uint32_t arena_slot_take(arenas_t *arenas, uint64_t low, uint64_t high) noexcept nogil:
    cdef uint32_t i, slot
    cdef arena_t *arena
    for i in range(arenas.count):
        arena = &arenas.arenas[i]
        if arena.vaddr < low or arena.vaddr + arena.size > high or arena.slots.free_count == 0:
            continue
        slot = slot_take(&arena.slots)
        if slot != SLOT_NONE:
            return i << ARENA_SHIFT | slot
    return SLOT_NONE


cdef void arena_slot_put(arenas_t *arenas, uint32_t slot) noexcept nogil:
    slot_put(&arenas.arenas[slot >> ARENA_SHIFT].slots, slot & (ARENA_SLOT_MAX - 1))


cdef uint64_t slot_vaddr(const arenas_t *arenas, uint32_t slot) noexcept nogil:
    return arenas.arenas[slot >> ARENA_SHIFT].vaddr + <uint64_t>(slot & (ARENA_SLOT_MAX - 1)) * SLOT_SIZE


cdef uint32_t slot_at(const arenas_t *arenas, uint64_t vaddr) noexcept nogil:
    cdef uint32_t i
    cdef const arena_t *arena
    if vaddr < arenas.low_vaddr or vaddr >= arenas.high_vaddr:
        return SLOT_NONE
    for i in range(arenas.count):
        arena = &arenas.arenas[i]
        if arena.vaddr <= vaddr < arena.vaddr + arena.size:
            return i << ARENA_SHIFT | <uint32_t>((vaddr - arena.vaddr) // SLOT_SIZE)
    return SLOT_NONE
