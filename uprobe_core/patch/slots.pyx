"""The slot bitmap: see slots.pxd."""

from libc.errno cimport ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from uprobe_core.patch.sites cimport SLOT_NONE

cdef extern from * nogil:
    int __builtin_ctzll(unsigned long long word)


cdef int slots_make(slots_t *slots, uint32_t count) noexcept nogil:
    cdef uint32_t word
    slots.word_count = (count + 63) // 64
    slots.hint = 0
    slots.free_count = count
    slots.free_words = <uint64_t *>calloc(slots.word_count, sizeof(uint64_t))
    if slots.free_words == NULL:
        return -ENOMEM
    for word in range(slots.word_count):
        slots.free_words[word] = ~<uint64_t>0
    if count % 64:
        slots.free_words[slots.word_count - 1] = (<uint64_t>1 << (count % 64)) - 1
    return 0


cdef void slots_drop(slots_t *slots) noexcept nogil:
    free(slots.free_words)
    slots.free_words = NULL
    slots.word_count = slots.free_count = 0


cdef uint32_t slot_take(slots_t *slots) noexcept nogil:
    cdef uint32_t word, bit
    for word in range(slots.hint, slots.word_count):
        if slots.free_words[word]:
            bit = __builtin_ctzll(slots.free_words[word])
            slots.free_words[word] &= slots.free_words[word] - 1
            slots.hint = word
            slots.free_count -= 1
            return word * 64 + bit
    slots.hint = slots.word_count
    return SLOT_NONE


cdef void slot_put(slots_t *slots, uint32_t slot) noexcept nogil:
    cdef uint32_t word = slot // 64
    slots.free_words[word] |= <uint64_t>1 << (slot % 64)
    slots.free_count += 1
    if word < slots.hint:
        slots.hint = word


cdef class Slots:
    """A slot bitmap by itself: Slots(count).take() -> int (-1: none free), .put(slot)."""

    cdef slots_t slots

    def __cinit__(self, uint32_t count):
        if slots_make(&self.slots, count) < 0:
            raise MemoryError(f"slots: no memory for {count} slots")

    def __dealloc__(self):
        slots_drop(&self.slots)

    @property
    def free(self):
        """How many slots are free."""
        return self.slots.free_count

    def take(self):
        """The lowest free slot, or -1."""
        cdef uint32_t slot = slot_take(&self.slots)
        return -1 if slot == SLOT_NONE else <int>slot

    def put(self, uint32_t slot):
        """Give a slot back; ValueError if it is not a taken one."""
        if slot // 64 >= self.slots.word_count or self.slots.free_words[slot // 64] >> (slot % 64) & 1:
            raise ValueError(f"slots: {slot} is not taken")
        slot_put(&self.slots, slot)

    def cycle(self, unsigned long rounds):
        """Take and put `rounds` times in native code; for benchmarks."""
        cdef unsigned long i
        with nogil:
            for i in range(rounds):
                slot_put(&self.slots, slot_take(&self.slots))
