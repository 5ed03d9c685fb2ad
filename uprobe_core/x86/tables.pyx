"""Jump tables of distances.

No pattern of instructions is looked for. Every address that any instruction computes is tried as a table: the compiler
may have moved the `lea` far away from the jump, out of a loop or into another part of the function. It costs next to
nothing to be wrong: other data, taken for distances from its own address, leads nowhere near an instruction's start.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memcpy

from uprobe_core.x86.marks cimport bit_next, bit_set, bit_test, bit_test_any, text_t
from uprobe_core.x86.targets cimport image_t

cdef enum:
    ENTRY_SIZE = 4


cdef size_t unit_at(const units_t *units, uint64_t vaddr) noexcept nogil:
    cdef size_t low = 0, high = units.count, middle
    while low < high:
        middle = (low + high) // 2
        if units.starts[middle] <= vaddr:
            low = middle + 1
        else:
            high = middle
    return low - 1 if low and vaddr < units.ends[low - 1] else units.count


cdef bint begins_table(const text_t *text, const image_t *image, size_t place) noexcept nogil:
    """Whether an instruction computes this address, and what stands there leads from it to an instruction."""
    cdef int32_t distance = 0
    cdef size_t target
    if not bit_test(image.taken, place):
        return False
    memcpy(&distance, image.bytes + place, ENTRY_SIZE)
    target = image.vaddr + place + <uint64_t><int64_t>distance - text.vaddr
    return target < text.size and bit_test(text.insns, target)


cdef size_t table_read(const text_t *text, const image_t *image, const units_t *units, uint64_t table_vaddr,
                       uint64_t base_vaddr) noexcept nogil:
    cdef size_t place = table_vaddr - image.vaddr, target, count = 0, unit, first_unit = units.count
    cdef int32_t distance = 0
    cdef bint past = False  # an instruction refers to what is here: perhaps to other data
    while place + ENTRY_SIZE <= image.size:
        if count and begins_table(text, image, place):
            break
        past = past or count > 0 and bit_test_any(image.referenced, place, place + ENTRY_SIZE)
        memcpy(&distance, image.bytes + place, ENTRY_SIZE)
        target = base_vaddr + <uint64_t><int64_t>distance - text.vaddr
        if target >= text.size:
            break
        unit = unit_at(units, text.vaddr + target)
        if unit == units.count:  # bytes of which nothing is known have no windows
            if past or not count:
                break
        elif not bit_test(text.insns, target):
            break
        elif not count:
            first_unit = unit
        elif past and unit != first_unit:
            break
        bit_set(text.targets, target)
        count += 1
        place += ENTRY_SIZE
    return count


cdef void tables_read(const text_t *text, const image_t *image, const units_t *units) noexcept nogil:
    cdef size_t place = 0
    while (place := bit_next(image.taken, place, image.size)) < image.size:
        if table_read(text, image, units, image.vaddr + place, image.vaddr + place):
            bit_set(image.tables, place)
        place += 1
