"""Where exceptions land in functions that handle them.

A function's table (LSDA) has a row for each stretch of calls, with the place to which the unwinder goes when one of them
throws. Layout: Itanium C++ ABI, "Exception Handling Tables", and what gcc and clang write: numbers are LEB128 or have
two, four or eight bytes, as the table's own head says.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from array import array

cdef enum:
    # DW_EH_PE: how a number is written; the next three bits what it is relative to.
    PE_POINTER = 0x00
    PE_ULEB = 0x01
    PE_U16 = 0x02
    PE_U32 = 0x03
    PE_U64 = 0x04
    PE_SLEB = 0x09
    PE_S16 = 0x0A
    PE_S32 = 0x0B
    PE_S64 = 0x0C
    PE_FORMAT = 0x0F
    PE_RELATION = 0x70
    PE_TO_ITSELF = 0x10
    PE_OMITTED = 0xFF

cdef struct reader_t:
    const uint8_t *bytes
    size_t size
    size_t place
    bint failed      # a number ran past the end, or is written in no known way


cdef uint64_t read_leb(reader_t *reader, bint is_signed) noexcept nogil:
    cdef uint64_t value = 0
    cdef int shift = 0
    cdef uint8_t byte
    while reader.place < reader.size and shift < 64:
        byte = reader.bytes[reader.place]
        reader.place += 1
        value |= <uint64_t>(byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            if is_signed and byte & 0x40 and shift < 64:
                value |= ~<uint64_t>0 << shift
            return value
    reader.failed = True
    return 0


cdef uint64_t read_fixed(reader_t *reader, size_t width) noexcept nogil:
    cdef uint64_t value = 0
    if width > reader.size - reader.place:
        reader.failed = True
        return 0
    memcpy(&value, reader.bytes + reader.place, width)
    reader.place += width
    return value


cdef uint64_t read_number(reader_t *reader, int encoding) noexcept nogil:
    cdef int form = encoding & PE_FORMAT
    if form == PE_ULEB or form == PE_SLEB:
        return read_leb(reader, form == PE_SLEB)
    if form == PE_U16:
        return read_fixed(reader, 2)
    if form == PE_S16:
        return <uint64_t><int64_t><int16_t>read_fixed(reader, 2)
    if form == PE_U32:
        return read_fixed(reader, 4)
    if form == PE_S32:
        return <uint64_t><int64_t><int32_t>read_fixed(reader, 4)
    if form in (PE_POINTER, PE_U64, PE_S64):
        return read_fixed(reader, 8)
    reader.failed = True
    return 0


cdef size_t pads_read(reader_t *reader, uint64_t vaddr, uint64_t start, uint64_t *pads, size_t room) noexcept nogil:
    """The landing pads of the table at reader.place, of the function at `start`; `vaddr` is that of reader.bytes.

    Returns how many there are; only the first `room` of them are stored.
    """
    cdef uint64_t base = start, here, pad
    cdef size_t end, count = 0
    cdef int encoding = <int>read_fixed(reader, 1)
    if encoding != PE_OMITTED:  # pads are relative to another place than the function's start
        here = vaddr + reader.place
        base = read_number(reader, encoding)
        if encoding & PE_RELATION == PE_TO_ITSELF:
            base += here
    if <int>read_fixed(reader, 1) != PE_OMITTED:
        read_leb(reader, False)  # where the types are that are caught
    encoding = <int>read_fixed(reader, 1)
    here = read_leb(reader, False)
    if reader.failed or here > reader.size - reader.place:
        reader.failed = True
        return 0
    end = reader.place + here
    while reader.place < end and not reader.failed:
        read_number(reader, encoding)  # the stretch's start and length
        read_number(reader, encoding)
        pad = read_number(reader, encoding)
        read_leb(reader, False)        # what is done there
        if pad and not reader.failed:  # 0: nobody there handles anything
            if count < room:
                pads[count] = base + pad
            count += 1
    return count


def landing_pads(const uint8_t[::1] tables not None, vaddr: int, starts: array, places: array) -> array | None:
    """Addresses ("Q") where exceptions land.

    tables: the bytes at `vaddr` in which the functions' tables are. starts ("Q"): of the functions. places ("Q"): the
    address of each one's table. None where a table is damaged.
    """
    cdef const uint64_t[::1] functions = starts
    cdef const uint64_t[::1] addresses = places
    cdef uint64_t tables_vaddr = vaddr
    cdef size_t index, count = 0, size = tables.shape[0], room = size // 4 + 1
    cdef reader_t reader
    cdef uint64_t[::1] found
    # a pad takes four numbers of at least a byte each, and two functions may share a table
    pads = array("Q", bytes(8 * room))
    found = pads
    reader.bytes = &tables[0] if size else NULL
    reader.size = size
    reader.failed = False
    for index in range(<size_t>functions.shape[0]):
        if addresses[index] - tables_vaddr >= size:
            return None
        reader.place = addresses[index] - tables_vaddr
        if count + size // 4 + 1 > room:
            found = None
            pads.extend(array("Q", bytes(8 * room)))
            room *= 2
            found = pads
        count += pads_read(&reader, tables_vaddr, functions[index], &found[count],
                           room - count)
        if reader.failed:
            return None
    found = None
    return pads[:count]
