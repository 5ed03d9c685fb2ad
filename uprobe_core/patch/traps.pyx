"""The trap table: see traps.pxd."""

from libc.errno cimport ENOMEM, ENOSPC
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from uprobe_core.linux.memory cimport memory_write
from uprobe_core.linux.sigframe cimport SIGFRAME_MAX

cdef extern from "<signal.h>" nogil:
    const int SIGTRAP

cdef enum:
    PAGE = 4096
    PAGE_ENTRIES = 256
    SIGINFO = 0x4           # enum sa_flags of the kernel
    RESTORER = 0x04000000
    ON_STACK = 0x08000000
    NO_DEFER = 0x40000000
    AREA_BYTES = 16
    FIRST_TRUE_HANDLER = 2  # SIG_DFL is 0, SIG_IGN 1


cdef void data_fill(trap_data_t *data, uint64_t page_vaddr, const uint8_t *before) noexcept nogil:
    cdef uint64_t everything = ~<uint64_t>0
    memset(data, 0, sizeof(trap_data_t))
    memcpy(data.before, before, sizeof(data.before))
    data.trap_mask = <uint64_t>1 << (SIGTRAP - 1)
    data.ours[0] = page_vaddr + TRAP_HANDLER_OFF
    # Their handler, to which ours passes traps on, may run into our sites: SIGTRAP must not be blocked in it.
    data.ours[1] = SIGINFO | RESTORER | NO_DEFER
    data.ours[2] = page_vaddr + TRAP_RESTORER_OFF
    if data.before[0] >= FIRST_TRUE_HANDLER:
        data.ours[1] |= data.before[1] & ON_STACK
        data.ours[3] = data.before[3] & ~data.trap_mask
    else:
        data.ours[3] = everything & ~data.trap_mask


cdef inline int data_write(const traps_t *traps, int mem_fd) noexcept nogil:
    return memory_write(mem_fd, traps.page_vaddr + TRAP_DATA_OFF, &traps.data, sizeof(trap_data_t))


cdef int table_make(traps_t *traps, uint64_t table_vaddr, uint32_t size) noexcept nogil:
    """An empty table; the old one is the caller's."""
    cdef trap_entry_t *table = <trap_entry_t *>calloc(size, sizeof(trap_entry_t))
    cdef uint8_t *dirty = <uint8_t *>calloc(size // PAGE_ENTRIES, 1)
    cdef uint32_t bits = 0
    if table == NULL or dirty == NULL:
        free(table)
        free(dirty)
        return -ENOMEM
    while <uint32_t>1 << bits < size:
        bits += 1
    traps.table = table
    traps.dirty = dirty
    traps.size = size
    traps.count = 0
    traps.data.table_vaddr = table_vaddr
    traps.data.shift = 64 - bits
    traps.data.mask = size - 1
    return 0


cdef int traps_adopt(traps_t *traps, uint64_t page_vaddr, const uint8_t *before) noexcept nogil:
    cdef int status
    traps_drop(traps)
    data_fill(&traps.data, page_vaddr, before)
    status = table_make(traps, page_vaddr + TRAP_TABLE_OFF, TRAP_TABLE_ENTRIES)
    if status == 0:
        traps.page_vaddr = page_vaddr
    return status


cdef int traps_make(traps_t *traps, int mem_fd, uint64_t page_vaddr, const uint8_t *before) noexcept nogil:
    cdef int status = traps_adopt(traps, page_vaddr, before)
    return status if status < 0 else traps_rewrite(traps, mem_fd)


cdef int traps_rewrite(traps_t *traps, int mem_fd) noexcept nogil:
    cdef uint8_t page[PAGE]
    cdef int status
    traps.data.areas = 0
    memset(page, 0xcc, PAGE)
    memcpy(page, uprobes_trap_page, TRAP_CODE_SIZE)
    memcpy(page + TRAP_DATA_OFF, &traps.data, sizeof(trap_data_t))
    # The table first, which may be full of an earlier attach's entries.
    memset(traps.dirty, 1, traps.size // PAGE_ENTRIES)
    status = traps_flush(traps, mem_fd)
    return status if status < 0 else memory_write(mem_fd, traps.page_vaddr, page, PAGE)


cdef void traps_drop(traps_t *traps) noexcept nogil:
    free(traps.table)
    free(traps.dirty)
    memset(traps, 0, sizeof(traps_t))


cdef bint traps_fit(const traps_t *traps, uint32_t count) noexcept nogil:
    return <uint64_t>(traps.count + count) * 4 <= <uint64_t>traps.size * 3


cdef uint32_t traps_size_for(const traps_t *traps, uint32_t count) noexcept nogil:
    cdef uint32_t size = traps.size
    while <uint64_t>(traps.count + count) * 4 > <uint64_t>size * 3 and size < <uint32_t>1 << 30:
        size *= 2
    return size


cdef int traps_move(traps_t *traps, int mem_fd, uint64_t table_vaddr, uint32_t size) noexcept nogil:
    cdef traps_t before = traps[0]
    cdef uint32_t i
    cdef int status = table_make(traps, table_vaddr, size)
    if status == 0:
        for i in range(before.size):
            if before.table[i].site_vaddr:
                traps_set(traps, before.table[i].site_vaddr, before.table[i].go_vaddr)
        memset(traps.dirty, 1, size // PAGE_ENTRIES)
        status = traps_flush(traps, mem_fd)
        if status == 0:
            status = data_write(traps, mem_fd)
        if status == 0:
            free(before.table)
            free(before.dirty)
            return 0
        free(traps.table)
        free(traps.dirty)
    traps[0] = before
    return status


cdef inline trap_entry_t *entry_find(const traps_t *traps, uint64_t site_vaddr) noexcept nogil:
    """The entry of the site, or the empty one where it belongs."""
    cdef uint64_t position = (site_vaddr * TRAP_HASH) >> traps.data.shift
    while traps.table[position].site_vaddr and traps.table[position].site_vaddr != site_vaddr:
        position = (position + 1) & traps.data.mask
    return &traps.table[position]


cdef void traps_set(traps_t *traps, uint64_t site_vaddr, uint64_t go_vaddr) noexcept nogil:
    cdef trap_entry_t *entry
    if traps.page_vaddr == 0:
        return
    entry = entry_find(traps, site_vaddr)
    if entry.site_vaddr == 0:
        entry.site_vaddr = site_vaddr
        traps.count += 1
    elif entry.go_vaddr == go_vaddr:
        return
    entry.go_vaddr = go_vaddr
    traps.dirty[(entry - traps.table) // PAGE_ENTRIES] = 1


cdef uint64_t traps_get(const traps_t *traps, uint64_t site_vaddr) noexcept nogil:
    return 0 if traps.page_vaddr == 0 else entry_find(traps, site_vaddr).go_vaddr


cdef int traps_flush(traps_t *traps, int mem_fd) noexcept nogil:
    cdef uint32_t first = 0, last
    cdef uint32_t pages = traps.size // PAGE_ENTRIES
    cdef int status
    while first < pages:
        last = first
        while last < pages and traps.dirty[last]:
            last += 1
        if last > first:
            status = memory_write(mem_fd, traps.data.table_vaddr + <uint64_t>first * PAGE,
                                  traps.table + <size_t>first * PAGE_ENTRIES, <size_t>(last - first) * PAGE)
            if status < 0:
                return status
            memset(traps.dirty + first, 0, last - first)
        first = last + 1
    return 0


cdef int traps_add_area(traps_t *traps, int mem_fd, uint64_t start, uint64_t end) noexcept nogil:
    cdef uint64_t span[2]
    cdef int status
    if traps.page_vaddr == 0:
        return 0
    if traps.data.areas == TRAP_AREA_MAX:
        return -ENOSPC
    span[0] = start
    span[1] = end
    status = memory_write(mem_fd, traps.page_vaddr + TRAP_AREAS_OFF + traps.data.areas * sizeof(span), span, sizeof(span))
    if status < 0:
        return status
    traps.data.areas += 1
    return data_write(traps, mem_fd)


cdef int traps_idle(traps_t *traps, int mem_fd) noexcept nogil:
    cdef uint8_t zeros[PAGE]
    cdef uint64_t used = min(traps.data.areas * AREA_BYTES, <uint64_t>PAGE)
    cdef int status, page
    if traps.page_vaddr == 0:
        return 0
    traps.data.table_vaddr = 0
    traps.data.areas = 0
    status = data_write(traps, mem_fd)
    memset(zeros, 0, PAGE)
    # A frame holds a task's registers; and nothing that was true once shall be found later.
    for page in range(SIGFRAME_MAX // PAGE):
        if status == 0:
            status = memory_write(mem_fd, traps.page_vaddr + TRAP_FRAME_OFF + <uint64_t>page * PAGE, zeros, PAGE)
    if status == 0:
        status = memory_write(mem_fd, traps.page_vaddr + TRAP_AREAS_OFF, zeros, used)
    if status == 0:
        status = memory_write(mem_fd, traps.page_vaddr + TRAP_TABLE_OFF, zeros, PAGE)
    return status
