"""Jump tables of distances: a `switch` becomes `lea table; movslq (table,index,4); add; jmp`.

Tables of addresses need no reading: the loader relocates them, or they stand in the file as they are.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

from uprobe_core.x86.marks cimport text_t
from uprobe_core.x86.targets cimport image_t

# Known functions, by rising start: half-open ranges of addresses that do not overlap.
ctypedef struct units_t:
    const uint64_t *starts
    const uint64_t *ends
    size_t count

# The index of the function that holds `vaddr`; units.count if there is none.
cdef size_t unit_at(const units_t *units, uint64_t vaddr) noexcept nogil

# Takes what stands at `table_vaddr` for a table of 32-bit distances from `base_vaddr`, and marks where they lead. Ends
# at the first that leads to no instruction. Returns how many were marked: 0 where there is no such table.
cdef size_t table_read(const text_t *text, const image_t *image, const units_t *units, uint64_t table_vaddr,
                       uint64_t base_vaddr) noexcept nogil

# Reads a table at every address that an instruction computes, with distances from itself. Marks those that are tables.
cdef void tables_read(const text_t *text, const image_t *image, const units_t *units) noexcept nogil
