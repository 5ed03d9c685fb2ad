"""The pages of slots in a target: which there are, which slots are taken, where one lies.

An arena is known by its address alone; its bytes are written by us and never read back as truth.
"""

from libc.stdint cimport uint32_t, uint64_t

from uprobe_core.patch.slots cimport slots_t

cdef enum:
    ARENA_SHIFT = 20       # a slot number is arena << ARENA_SHIFT | index
    ARENA_MAX = 1 << 11
    ARENA_SLOT_MAX = 1 << ARENA_SHIFT

ctypedef struct arena_t:
    uint64_t vaddr
    uint64_t size   # bytes
    bint sealed     # the kernel lets nobody unmap it before an exec
    slots_t slots

ctypedef struct arenas_t:
    arena_t *arenas
    uint32_t count
    uint64_t low_vaddr, high_vaddr  # all arenas lie in [low, high): the quick test for "not in a slot"

cdef int arenas_make(arenas_t *arenas) noexcept nogil
cdef void arenas_drop(arenas_t *arenas) noexcept nogil

# Takes in a mapping of `size` bytes at `vaddr` that exists in the target. 0 or -ENOMEM.
cdef int arena_add(arenas_t *arenas, uint64_t vaddr, uint64_t size, bint sealed) noexcept nogil

# A slot whose address lies in [low, high), or SLOT_NONE.
cdef uint32_t arena_slot_take(arenas_t *arenas, uint64_t low, uint64_t high) noexcept nogil
cdef void arena_slot_put(arenas_t *arenas, uint32_t slot) noexcept nogil

# Where a slot lies.
cdef uint64_t slot_vaddr(const arenas_t *arenas, uint32_t slot) noexcept nogil

# The slot that holds address `vaddr`, or SLOT_NONE.
cdef uint32_t slot_at(const arenas_t *arenas, uint64_t vaddr) noexcept nogil
