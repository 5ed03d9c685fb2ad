"""The pages of trampolines in a target: a gate page, and the code behind it, known by address alone.

Room is given out in units of 32 bytes, so that descriptors of sequences are aligned. Each unit knows the trampoline that it belongs to, so that an instruction pointer
leads to its trampoline.
"""

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    UNIT = 32
    JUMP_AREA_MAX = 256

cdef extern from * nogil:
    """
    #define UNIT_FREE 0xffffffffu
    #define UNIT_TAKEN 0xfffffffeu
    """
    const uint32_t UNIT_FREE
    const uint32_t UNIT_TAKEN   # not ours to give out, and no trampoline of ours

ctypedef struct jump_area_t:
    uint64_t gate_vaddr   # the page of literals
    uint64_t vaddr        # of the code
    uint64_t size
    bint sealed
    uint32_t units
    uint32_t hint         # all units before are taken
    uint32_t cold_hint    # all units from here on are taken
    uint32_t free
    uint32_t *owners      # of each unit: a trampoline's number, UNIT_FREE or UNIT_TAKEN

ctypedef struct jump_areas_t:
    jump_area_t *areas
    uint32_t count
    uint64_t low_vaddr, high_vaddr

cdef void jump_areas_drop(jump_areas_t *areas) noexcept nogil

# Takes in a mapping: a page of literals at `gate_vaddr` and `size` bytes for code at `vaddr`. 0 or -ENOMEM.
cdef int jump_area_add(jump_areas_t *areas, uint64_t gate_vaddr, uint64_t vaddr, uint64_t size, bint sealed) noexcept nogil

# The area from which everything in [low, high) is within reach, and that has `size` contiguous bytes free and `cold_size`
# more, near its end, taken now for `owner`. Their addresses go to `vaddr` and `cold_vaddr`. NULL: there is none.
cdef jump_area_t *jump_room_take(jump_areas_t *areas, uint64_t low, uint64_t high, uint32_t size, uint32_t cold_size,
                                 uint32_t owner, uint64_t *vaddr, uint64_t *cold_vaddr) noexcept nogil
cdef void jump_room_put(jump_areas_t *areas, uint64_t vaddr, uint32_t size) noexcept nogil

# Bytes of an area that already hold something belong to `owner` from now on.
cdef void jump_room_claim(jump_areas_t *areas, uint64_t vaddr, uint32_t size, uint32_t owner) noexcept nogil

# The area that holds `vaddr` in its code, or NULL.
cdef jump_area_t *jump_area_at(const jump_areas_t *areas, uint64_t vaddr) noexcept nogil

# The owner of the unit at `vaddr`; UNIT_FREE outside of all areas.
cdef uint32_t jump_owner_at(const jump_areas_t *areas, uint64_t vaddr) noexcept nogil
