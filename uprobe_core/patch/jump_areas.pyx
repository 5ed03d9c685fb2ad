"""Areas of trampolines: see jump_areas.pxd."""

from libc.errno cimport ENOMEM
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

# A rel32 reaches ±2 GiB; less room for the trampoline's own length.
cdef enum:
    REACH = 0x7fff0000


cdef void jump_areas_drop(jump_areas_t *areas) noexcept nogil:
    cdef uint32_t i
    for i in range(areas.count):
        free(areas.areas[i].owners)
    free(areas.areas)
    areas.areas = NULL
    areas.count = 0
    areas.low_vaddr = areas.high_vaddr = 0


cdef int jump_area_add(jump_areas_t *areas, uint64_t gate_vaddr, uint64_t vaddr, uint64_t size, bint sealed) noexcept nogil:
    cdef jump_area_t *area
    if areas.areas == NULL:
        areas.areas = <jump_area_t *>calloc(JUMP_AREA_MAX, sizeof(jump_area_t))
    if areas.areas == NULL or areas.count == JUMP_AREA_MAX:
        return -ENOMEM
    area = &areas.areas[areas.count]
    area.units = area.free = <uint32_t>(size // UNIT)
    area.owners = <uint32_t *>malloc(<size_t>area.units * sizeof(uint32_t))
    if area.owners == NULL:
        return -ENOMEM
    memset(area.owners, 0xff, <size_t>area.units * sizeof(uint32_t))
    area.gate_vaddr = gate_vaddr
    area.vaddr = vaddr
    area.size = size
    area.sealed = sealed
    area.hint = 0
    area.cold_hint = area.units
    areas.low_vaddr = vaddr if areas.count == 0 else min(areas.low_vaddr, vaddr)
    areas.high_vaddr = max(areas.high_vaddr, vaddr + size)
    areas.count += 1
    return 0


cdef bint area_take(jump_area_t *area, uint32_t wanted, uint32_t owner, uint64_t *vaddr) noexcept nogil:
    cdef uint32_t unit = area.hint, run = 0, i
    while unit < area.units and area.owners[unit] != UNIT_FREE:
        unit += 1
    area.hint = unit
    while unit < area.units:
        run = run + 1 if area.owners[unit] == UNIT_FREE else 0
        unit += 1
        if run == wanted:
            for i in range(unit - wanted, unit):
                area.owners[i] = owner
            area.free -= wanted
            vaddr[0] = area.vaddr + <uint64_t>(unit - wanted) * UNIT
            return True
    return False


cdef bint area_take_cold(jump_area_t *area, uint32_t wanted, uint32_t owner, uint64_t *vaddr) noexcept nogil:
    """The same, from the end."""
    cdef uint32_t unit = area.cold_hint, run = 0, i
    while unit and area.owners[unit - 1] != UNIT_FREE:
        unit -= 1
    area.cold_hint = unit
    while unit and run < wanted:
        unit -= 1
        run = run + 1 if area.owners[unit] == UNIT_FREE else 0
    if run < wanted:
        return False
    for i in range(unit, unit + wanted):
        area.owners[i] = owner
    area.free -= wanted
    vaddr[0] = area.vaddr + <uint64_t>unit * UNIT
    return True


cdef jump_area_t *jump_room_take(jump_areas_t *areas, uint64_t low, uint64_t high, uint32_t size, uint32_t cold_size,
                                 uint32_t owner, uint64_t *vaddr, uint64_t *cold_vaddr) noexcept nogil:
    cdef uint32_t wanted = (size + UNIT - 1) // UNIT, cold = (cold_size + UNIT - 1) // UNIT
    cdef jump_area_t *area
    cdef uint32_t i
    for i in range(areas.count):
        area = &areas.areas[i]
        if area.free < wanted + cold or area.vaddr + area.size > low + REACH or (area.vaddr < high and high - area.vaddr > REACH):
            continue
        if not area_take(area, wanted, owner, vaddr):
            continue
        if cold == 0 or area_take_cold(area, cold, owner, cold_vaddr):
            return area
        jump_room_put(areas, vaddr[0], size)
    return NULL


cdef void jump_room_put(jump_areas_t *areas, uint64_t vaddr, uint32_t size) noexcept nogil:
    cdef jump_area_t *area = jump_area_at(areas, vaddr)
    cdef uint32_t first, i
    if area == NULL:
        return
    first = <uint32_t>((vaddr - area.vaddr) // UNIT)
    for i in range(first, first + (size + UNIT - 1) // UNIT):
        area.owners[i] = UNIT_FREE
        area.free += 1
    area.hint = min(area.hint, first)
    area.cold_hint = max(area.cold_hint, first + (size + UNIT - 1) // UNIT)


cdef void jump_room_claim(jump_areas_t *areas, uint64_t vaddr, uint32_t size, uint32_t owner) noexcept nogil:
    cdef jump_area_t *area = jump_area_at(areas, vaddr)
    cdef uint32_t unit, end
    if area == NULL:
        return
    unit = <uint32_t>((vaddr - area.vaddr) // UNIT)
    end = min(unit + (size + UNIT - 1) // UNIT, area.units)
    while unit < end:
        area.free -= area.owners[unit] == UNIT_FREE
        area.owners[unit] = owner
        unit += 1


cdef jump_area_t *jump_area_at(const jump_areas_t *areas, uint64_t vaddr) noexcept nogil:
    cdef uint32_t i
    if vaddr < areas.low_vaddr or vaddr >= areas.high_vaddr:
        return NULL
    for i in range(areas.count):
        if areas.areas[i].vaddr <= vaddr < areas.areas[i].vaddr + areas.areas[i].size:
            return &areas.areas[i]
    return NULL


cdef uint32_t jump_owner_at(const jump_areas_t *areas, uint64_t vaddr) noexcept nogil:
    cdef jump_area_t *area = jump_area_at(areas, vaddr)
    return UNIT_FREE if area == NULL else area.owners[(vaddr - area.vaddr) // UNIT]
