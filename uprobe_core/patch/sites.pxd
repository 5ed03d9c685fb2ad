"""All sites of one target and the index from address to site.

Sites live in chunks that never move, so a reader in another thread may look at `hits` while the tracer thread, the only
one that changes anything, inserts more.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "patch/site.h" nogil:
    const uint32_t SITE_NONE
    const uint32_t SLOT_NONE
    cpdef enum site_state:
        SITE_LIVE
        SITE_ARMED
        SITE_CALLBACK
        SITE_STEP
        SITE_TAPPED
        SITE_GONE
    ctypedef struct site_t:
        uint64_t vaddr
        uint64_t plan
        uint64_t state
        uint64_t hits
        uint8_t original[15]
        uint8_t length
        uint8_t operand
        uint32_t slot
        uint16_t users
        uint16_t armers

cdef enum:
    CHUNK_SHIFT = 12
    CHUNK_SITES = 1 << CHUNK_SHIFT
    CHUNK_COUNT = 1 << 14  # 67 million sites; untouched pages of the array cost nothing

ctypedef struct sites_t:
    site_t **chunks
    uint32_t count
    uint32_t *index      # open addressing, at most three quarters full; SITE_NONE: empty
    uint32_t index_size

cdef int sites_make(sites_t *sites) noexcept nogil
cdef void sites_drop(sites_t *sites) noexcept nogil

# A new, empty site at `vaddr`, which must not have one yet. Its number goes to `number`; 0 or -ENOMEM.
cdef int site_add(sites_t *sites, uint64_t vaddr, uint32_t *number) noexcept nogil

# The number of the site at `vaddr`, live or removed but not gone, or SITE_NONE.
cdef uint32_t site_find(const sites_t *sites, uint64_t vaddr) noexcept nogil

# The site's memory is another's by now. Its number stays, with its count; its address may get a new site.
cdef void site_forget(site_t *site) noexcept nogil

# Bytes that the table has allocated.
cdef size_t sites_bytes(const sites_t *sites) noexcept nogil

cdef inline site_t *site_at(const sites_t *sites, uint32_t number) noexcept nogil:
    return &sites.chunks[number >> CHUNK_SHIFT][number & (CHUNK_SITES - 1)]
