"""The handler of SIGTRAP in the target and its table, from our side: see trap_page.h.

The table is an open-addressed hash that only ever grows: entries are added and changed, never moved, each within one page.
A page is written by one call, so a tracer that dies leaves each entry as it was or as it is to be. We keep a copy and
write the pages that changed.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "patch/trap_page.h" nogil:
    ctypedef struct trap_entry_t:
        uint64_t site_vaddr
        uint64_t go_vaddr
    ctypedef struct trap_data_t:
        uint64_t table_vaddr
        uint64_t shift
        uint64_t mask
        uint64_t areas
        uint64_t before[4]
        uint64_t none[4]
        uint64_t ours[4]
        uint64_t trap_mask
    const int TRAP_DATA_OFF
    const int TRAP_BEFORE_OFF
    const int TRAP_OURS_OFF
    const int TRAP_HANDLER_OFF
    const int TRAP_RESTORER_OFF
    const int TRAP_CODE_SIZE
    const int TRAP_FRAME_OFF
    const int TRAP_AREAS_OFF
    const int TRAP_TABLE_OFF
    const int TRAP_TABLE_ENTRIES
    const int TRAP_AREA_SIZE
    const uint64_t TRAP_HASH
    const uint8_t *uprobes_trap_page

cdef enum:
    TRAP_AREA_MAX = 2048

ctypedef struct traps_t:
    uint64_t page_vaddr    # 0: the target has no handler of ours
    trap_data_t data       # as it is in the target
    trap_entry_t *table    # our copy
    uint8_t *dirty         # one byte a page of the table: it differs from the target's
    uint32_t size          # entries, a power of two
    uint32_t count
    bint sealed            # its mapping
    bint installed         # rt_sigaction was made

# Takes the mapping of TRAP_AREA_SIZE bytes at `page_vaddr`, readable and executable, and writes the page. before: the
# disposition of SIGTRAP as it is, 32 bytes. 0 or -errno.
cdef int traps_make(traps_t *traps, int mem_fd, uint64_t page_vaddr, const uint8_t *before) noexcept nogil

# As traps_make, for a page that a dead tracer has written. Nothing is written before traps_rewrite.
cdef int traps_adopt(traps_t *traps, uint64_t page_vaddr, const uint8_t *before) noexcept nogil

# Writes page and table again; the list of areas is empty then. 0 or -errno.
cdef int traps_rewrite(traps_t *traps, int mem_fd) noexcept nogil

# After an exec, or at the end: there is no handler.
cdef void traps_drop(traps_t *traps) noexcept nogil

# Whether `count` more entries fit; if not, the caller makes room: a mapping of `traps_bytes(entries)` bytes.
cdef bint traps_fit(const traps_t *traps, uint32_t count) noexcept nogil
cdef uint32_t traps_size_for(const traps_t *traps, uint32_t count) noexcept nogil

# From now on the table is the mapping of `size` entries at `table_vaddr`, which has all entries. 0 or -errno.
cdef int traps_move(traps_t *traps, int mem_fd, uint64_t table_vaddr, uint32_t size) noexcept nogil

# Threads that trap at `site_vaddr` go on at `go_vaddr`; takes effect at the next traps_flush. There must be room.
cdef void traps_set(traps_t *traps, uint64_t site_vaddr, uint64_t go_vaddr) noexcept nogil

# Where they go on; 0: no such site.
cdef uint64_t traps_get(const traps_t *traps, uint64_t site_vaddr) noexcept nogil
cdef int traps_flush(traps_t *traps, int mem_fd) noexcept nogil

# An area of ours at [start, end): a trap on the way through it is left alone. 0 or -errno.
cdef int traps_add_area(traps_t *traps, int mem_fd, uint64_t start, uint64_t end) noexcept nogil

# No site and no area is ours any more; what the page knows of the disposition before stays, for who kept the address of
# our handler. 0 or -errno.
cdef int traps_idle(traps_t *traps, int mem_fd) noexcept nogil
