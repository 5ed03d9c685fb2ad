"""A bitmap of slots: which are free. Taking and putting are a few instructions; nothing here touches a target."""

from libc.stdint cimport uint32_t, uint64_t

ctypedef struct slots_t:
    uint64_t *free_words  # bit set: the slot is free
    uint32_t word_count
    uint32_t hint         # the first word that may have a free slot
    uint32_t free_count

# `count` slots, all free. 0, or -ENOMEM.
cdef int slots_make(slots_t *slots, uint32_t count) noexcept nogil
cdef void slots_drop(slots_t *slots) noexcept nogil

# The lowest free slot, or SLOT_NONE.
cdef uint32_t slot_take(slots_t *slots) noexcept nogil
cdef void slot_put(slots_t *slots, uint32_t slot) noexcept nogil
