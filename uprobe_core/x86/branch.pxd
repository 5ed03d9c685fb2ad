"""Direct branches, read from the site's original bytes without decoding.

place.operand is the offset of the last opcode byte; the relative target is all that follows it.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from uprobe_core.x86.fixup cimport place_t

cdef enum:
    OPCODE_CALL = 0xE8
    OPCODE_JMP = 0xE9
    OPCODE_JMP_SHORT = 0xEB


cdef inline uint64_t branch_target(const place_t *place) noexcept nogil:
    cdef const uint8_t *rel = place.original + place.operand + 1
    cdef uint64_t next_ip = place.ip + place.length
    cdef int32_t rel32 = 0
    if place.length - place.operand == 2:
        return next_ip + <uint64_t><int64_t>(<int8_t>rel[0])
    memcpy(&rel32, rel, 4)
    return next_ip + <uint64_t><int64_t>rel32


cdef inline bint branch_is_conditional(const place_t *place) noexcept nogil:
    return place.original[place.operand] not in (OPCODE_CALL, OPCODE_JMP, OPCODE_JMP_SHORT)
