"""The site table: see sites.pxd."""

from libc.errno cimport ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset


cdef inline uint32_t slot_of(const sites_t *sites, uint64_t vaddr) noexcept nogil:
    # Fibonacci hashing; instruction addresses differ in their low bits most.
    return <uint32_t>((vaddr * <uint64_t>0x9E3779B97F4A7C15) >> 32) & sites.index_mask


cdef int index_make(sites_t *sites, uint32_t size) noexcept nogil:
    """A fresh index of `size` entries over all sites."""
    cdef uint32_t *index = <uint32_t *>malloc(<size_t>size * sizeof(uint32_t))
    cdef uint32_t number, position
    if index == NULL:
        return -ENOMEM
    memset(index, 0xff, <size_t>size * sizeof(uint32_t))
    free(sites.index)
    sites.index = index
    sites.index_mask = size - 1
    for number in range(sites.count):
        position = slot_of(sites, site_at(sites, number).vaddr)
        while index[position] != SITE_NONE:
            position = (position + 1) & sites.index_mask
        index[position] = number
    return 0


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
    if sites.count * 2 >= sites.index_mask and index_make(sites, (sites.index_mask + 1) * 2) < 0:
        return -ENOMEM
    number[0] = sites.count
    site = site_at(sites, sites.count)
    site.vaddr = vaddr
    site.slot = SLOT_NONE
    site.state = 0
    position = slot_of(sites, vaddr)
    while sites.index[position] != SITE_NONE:
        position = (position + 1) & sites.index_mask
    sites.index[position] = sites.count
    sites.count += 1
    return 0


cdef uint32_t site_find(const sites_t *sites, uint64_t vaddr) noexcept nogil:
    cdef uint32_t position = slot_of(sites, vaddr)
    cdef uint32_t number = sites.index[position]
    while number != SITE_NONE:
        if site_at(sites, number).vaddr == vaddr:
            return number
        position = (position + 1) & sites.index_mask
        number = sites.index[position]
    return SITE_NONE
