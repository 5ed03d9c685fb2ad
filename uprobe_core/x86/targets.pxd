"""Where control may come into a text other than from the instruction before: every possible branch target.

Marks too much rather than too little: a mark costs a window, a missing one the program.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from uprobe_core.x86.marks cimport text_t

# All that a file loads, as it lies in memory. Maps as in text_t, of bytes[i].
ctypedef struct image_t:
    const uint8_t *bytes
    size_t size
    uint64_t vaddr
    uint8_t *referenced  # an instruction names the address
    uint8_t *taken       # an instruction computes the address without reading there
    uint8_t *tables      # a jump table begins there
    bint absolute        # loaded at its own addresses: immediates and displacements may be addresses, too

# Decodes the function from offset `start` to `end` of the text, one instruction after another. Marks where they begin,
# and where they lead: direct branches and calls, the place after a call or system call, addresses taken. Returns the
# offset at which it stopped: `end`, or where bytes begin that are no instruction that ends there.
cdef size_t targets_sweep(const text_t *text, const image_t *image, size_t start, size_t end,
                          uint32_t options) noexcept nogil

# Bytes of which it is not known where instructions begin: marks where they would lead if one began at each.
cdef void targets_sweep_unknown(const text_t *text, const image_t *image, size_t start, size_t end,
                                uint32_t options) noexcept nogil


cdef class Text:
    cdef text_t text
    cdef image_t image
    cdef uint32_t options
    cdef object content  # keeps alive what the pointers lead to
    cdef object code
    cdef object maps
