"""The site table: see sites.pxd."""

from libc.errno cimport ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset


cdef inline uint32_t index_home(const sites_t *sites, uint64_t vaddr) noexcept nogil:
    # Fibonacci hashing, as instruction addresses differ in their low bits most; the product scales the hash to a size
    # that need not be a power of two, so that the index grows in small steps and stays dense.
    cdef uint32_t spread = <uint32_t>((vaddr * <uint64_t>0x9E3779B97F4A7C15) >> 32)
    return <uint32_t>((<uint64_t>spread * sites.index_size) >> 32)


cdef inline uint32_t index_next(const sites_t *sites, uint32_t position) noexcept nogil:
    return position + 1 if position + 1 < sites.index_size else 0


cdef int index_make(sites_t *sites, uint32_t size) noexcept nogil:
    """A fresh index of `size` entries over all sites."""
    cdef uint32_t *index = <uint32_t *>malloc(<size_t>size * sizeof(uint32_t))
    cdef uint32_t number, position
    if index == NULL:
        return -ENOMEM
    memset(index, 0xff, <size_t>size * sizeof(uint32_t))
    free(sites.index)
    sites.index = index
    sites.index_size = size
    for number in range(sites.count):
        if site_at(sites, number).state & SITE_GONE:
            continue
        position = index_home(sites, site_at(sites, number).vaddr)
        while index[position] != SITE_NONE:
            position = index_next(sites, position)
        index[position] = number
    return 0


cdef size_t sites_bytes(const sites_t *sites) noexcept nogil:
    cdef size_t chunks = (<size_t>sites.count + CHUNK_SITES - 1) >> CHUNK_SHIFT
    return chunks * (CHUNK_SITES * sizeof(site_t) + sizeof(site_t *)) + <size_t>sites.index_size * sizeof(uint32_t)


cdef int sites_make(sites_t *sites) noexcept nogil:
    sites.count = 0
    sites.index = NULL
    sites.chunks = <site_t **>calloc(CHUNK_COUNT, sizeof(site_t *))
    if sites.chunks == NULL:
        return -ENOMEM
    return index_make(sites, 1024)


cdef void sites_drop(sites_t *sites) noexcept nogil:
    cdef int chunk
    if sites.chunks != NULL:
        for chunk in range(CHUNK_COUNT):
            if sites.chunks[chunk] == NULL:
                break
            free(sites.chunks[chunk])
    free(sites.chunks)
    free(sites.index)
    sites.chunks = NULL
    sites.index = NULL
    sites.count = 0


cdef int site_add(sites_t *sites, uint64_t vaddr, uint32_t *number) noexcept nogil:
    cdef uint32_t chunk = sites.count >> CHUNK_SHIFT
    cdef uint32_t position
    cdef site_t *site
    if chunk >= CHUNK_COUNT:
        return -ENOMEM
    if sites.chunks[chunk] == NULL:
        sites.chunks[chunk] = <site_t *>calloc(CHUNK_SITES, sizeof(site_t))
        if sites.chunks[chunk] == NULL:
            return -ENOMEM
    # Three quarters full; then by a quarter as much again.
    if sites.count >= sites.index_size // 4 * 3 and index_make(sites, sites.index_size // 4 * 5) < 0:
        return -ENOMEM
    number[0] = sites.count
    site = site_at(sites, sites.count)
    site.vaddr = vaddr
    site.slot = SLOT_NONE
    site.state = 0
    position = index_home(sites, vaddr)
    while sites.index[position] != SITE_NONE:
        position = index_next(sites, position)
    sites.index[position] = sites.count
    sites.count += 1
    return 0


cdef uint32_t site_find(const sites_t *sites, uint64_t vaddr) noexcept nogil:
    cdef uint32_t position = index_home(sites, vaddr)
    cdef uint32_t number = sites.index[position]
    while number != SITE_NONE:
        if site_at(sites, number).vaddr == vaddr and not site_at(sites, number).state & SITE_GONE:
            return number
        position = index_next(sites, position)
        number = sites.index[position]
    return SITE_NONE


cdef void site_forget(site_t *site) noexcept nogil:
    site.state = (site.state & ~<uint64_t>(SITE_LIVE | SITE_ARMED)) | SITE_GONE
