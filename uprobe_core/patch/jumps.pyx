"""Patching windows: see jumps.pxd."""

from libc.errno cimport ENOMEM
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memmove, memset

from uprobe_core.abi cimport (
    HIT_COUNT, INSN_MAX, OPERAND_NONE, PLAN_ONE_STOP, REFUSAL_CHANGED, REFUSAL_INSIDE, REFUSAL_NONE, REFUSAL_NO_BOARD, REFUSAL_PAGE, REFUSAL_OCCUPIED,
    REFUSAL_TOO_LONG, REFUSAL_TRUNCATED, WAY_JUMP, hitcode_t, hitplace_t,
)
from uprobe_core.linux.journal cimport (
    JOURNAL_CHUNK_SHIFT, RECORD_JUMP, RECORD_PATCH, RECORD_UNNUMBERED, journal_append, journal_drop, journal_entry_t,
    journal_record, journal_reserve, journal_t,
)
from uprobe_core.linux.memory cimport memory_read, memory_write
from uprobe_core.patch.jump_areas cimport (
    UNIT, jump_area_t, jump_areas_drop, jump_room_claim, jump_room_put, jump_room_take,
)
from uprobe_core.patch.sites cimport SITE_JUMP, SITE_LIVE, SITE_NONE, site_add, site_at, site_find, site_t
from uprobe_core.patch.windows cimport (
    TRAMPOLINE_NONE, WINDOW_ARMED, WINDOW_BUSY, WINDOW_CHANGED, WINDOW_LEAVING, WINDOW_NONE, WINDOW_REFUSED, jump_site_find, jump_site_t, jump_site_link,
    trampoline_add, trampoline_remove, window_add, window_after, window_at, window_remove, window_t, windows_drop,
)
from uprobe_core.status cimport STATUS_CHANGED, STATUS_NO_ROOM, STATUS_OK, STATUS_REFUSED
from uprobe_core.x86.trampoline cimport (
    ACTIONS_MAX, COLD_BYTES, JUMP_SIZE, TRAMPOLINE_BYTES, WINDOW_BYTES, WINDOW_INSNS, arrival_t, trampoline_make, trampoline_t,
)

cdef enum:
    RUN_BYTES = 1 << 15
    CELL_SIZE = 8
    OPCODE_JMP = 0xE9
    OPCODE_INT3 = 0xCC
    PAGE = 4096
    TRIAL_DISTANCE = 1 << 20   # any address within reach will do to see whether a window can be displaced

# Trampolines that follow each other, to be written in one go.
ctypedef struct run_t:
    uint64_t vaddr
    size_t size
    uint8_t bytes[RUN_BYTES]


cdef void jumps_drop(jumps_t *jumps) noexcept nogil:
    free(jumps.scratch)
    jumps.scratch = NULL
    windows_drop(&jumps.windows)
    jump_areas_drop(&jumps.areas)


cdef bint window_is_live(const jumps_t *jumps, const window_t *window) noexcept nogil:
    """Whether it is of use to anybody: its jump is in, or a site wants it to be."""
    cdef uint32_t number = window.first
    if window.state & WINDOW_ARMED:
        return True
    while number != SITE_NONE:
        if site_at(jumps.sites, number).state & (SITE_LIVE | SITE_JUMP) == SITE_LIVE | SITE_JUMP:
            return True
        number = jump_site_find(&jumps.windows, number).next
    return False


cdef bint window_is_taken(const jumps_t *jumps, uint64_t vaddr) noexcept nogil:
    cdef uint32_t number = window_at(&jumps.windows, vaddr)
    if number == WINDOW_NONE or jumps.windows.windows[number].state & WINDOW_LEAVING:
        return False
    return window_is_live(jumps, &jumps.windows.windows[number])


cdef bint trap_overlaps(const jumps_t *jumps, uint64_t vaddr, uint8_t length) noexcept nogil:
    """Whether a site that is served by a stop lies in these bytes."""
    cdef uint64_t at
    cdef uint32_t number
    for at in range(vaddr, vaddr + length):
        number = site_find(jumps.sites, at)
        if number != SITE_NONE and site_at(jumps.sites, number).state & (SITE_LIVE | SITE_JUMP) == SITE_LIVE:
            return True
    return False


cdef int wish_refuse(jump_wish_t *wish, int refusal) noexcept nogil:
    wish.refusal = <uint8_t>refusal
    return STATUS_REFUSED


cdef int wish_window(jumps_t *jumps, jump_wish_t *wish, const uint8_t *code, uint32_t *number) noexcept nogil:
    """The window of a wish, new if need be."""
    cdef uint8_t there[WINDOW_BYTES]
    cdef window_t *window
    cdef uint32_t place = window_after(&jumps.windows, wish.window_vaddr)
    if trap_overlaps(jumps, wish.window_vaddr, wish.length):
        return wish_refuse(wish, REFUSAL_OCCUPIED)
    while place < jumps.windows.count and jumps.windows.order[place].vaddr < wish.window_vaddr + wish.length:
        number[0] = jumps.windows.order[place].window
        window = &jumps.windows.windows[number[0]]
        if (window.vaddr == wish.window_vaddr and window.length == wish.length
                and memcmp(window.original, code, wish.length) == 0 and not window.state & WINDOW_CHANGED):
            if window.state & WINDOW_LEAVING:
                return wish_refuse(wish, REFUSAL_OCCUPIED)
            return STATUS_OK
        if window_is_live(jumps, window):
            return wish_refuse(wish, REFUSAL_OCCUPIED)
        window_remove(&jumps.windows, number[0])
    if memory_read(jumps.mem_fd, wish.window_vaddr, there, wish.length) < 0:
        return wish_refuse(wish, REFUSAL_TRUNCATED)
    if memcmp(there, code, wish.length):
        return wish_refuse(wish, REFUSAL_CHANGED)
    return window_add(&jumps.windows, wish.window_vaddr, code, wish.length, number)


cdef int wish_try(jumps_t *jumps, jump_wish_t *wish, const uint8_t *code, uint8_t *length) noexcept nogil:
    """Whether the window can be displaced, and the site begins an instruction of it."""
    cdef uint8_t bytes[TRAMPOLINE_BYTES]
    cdef uint8_t cold[COLD_BYTES]
    cdef trampoline_t trial
    cdef size_t i
    cdef int status = trampoline_make(code, wish.length, wish.window_vaddr, jumps.decode_options, NULL, 0, NULL,
                                      (wish.window_vaddr & ~<uint64_t>(UNIT - 1)) + TRIAL_DISTANCE, bytes, TRAMPOLINE_BYTES,
                                      wish.window_vaddr, cold, &trial)
    if status:
        return wish_refuse(wish, trial.refusal if trial.refusal else REFUSAL_TOO_LONG)
    for i in range(trial.count):
        if wish.window_vaddr + trial.insns[i].offset == wish.vaddr:
            length[0] = trial.insns[i].length
            return STATUS_OK
    return wish_refuse(wish, REFUSAL_INSIDE)


cdef int wish_make(jumps_t *jumps, jump_wish_t *wish, const uint8_t *code) noexcept nogil:
    cdef site_t *site
    cdef uint32_t window
    cdef uint8_t length = 0
    cdef int status
    wish.site = site_find(jumps.sites, wish.vaddr)
    if wish.site != SITE_NONE and site_at(jumps.sites, wish.site).state & SITE_LIVE:
        return STATUS_OK
    if (wish.length < JUMP_SIZE or wish.length > WINDOW_BYTES or wish.vaddr - wish.window_vaddr >= wish.length
            or wish.window_vaddr % PAGE > PAGE - JUMP_SIZE):
        return wish_refuse(wish, REFUSAL_PAGE)
    status = wish_try(jumps, wish, code, &length)
    if status == STATUS_OK:
        status = wish_window(jumps, wish, code, &window)
    if status == STATUS_OK and wish.site == SITE_NONE:
        status = site_add(jumps.sites, wish.vaddr, &wish.site)
    if status:
        return status
    jumps.windows.windows[window].low = wish.low
    jumps.windows.windows[window].high = wish.high
    status = jump_site_link(&jumps.windows, wish.site, window, <uint8_t>(wish.vaddr - wish.window_vaddr), &wish.freedom)
    if status:
        return status if status < 0 else wish_refuse(wish, REFUSAL_NO_BOARD)
    site = site_at(jumps.sites, wish.site)
    site.plan = PLAN_ONE_STOP | WAY_JUMP
    site.state = SITE_LIVE | SITE_JUMP
    site.length = length
    site.operand = OPERAND_NONE
    memset(site.original, 0, INSN_MAX)
    memcpy(site.original, code + (wish.vaddr - wish.window_vaddr), length)
    return STATUS_OK


cdef int jumps_insert(jumps_t *jumps, jump_wish_t *wishes, size_t count, const uint8_t *code, uint64_t code_vaddr,
                      uint64_t code_size) noexcept nogil:
    cdef jump_wish_t *wish
    cdef size_t i
    for i in range(count):
        wish = &wishes[i]
        wish.refusal = REFUSAL_NONE
        if wish.window_vaddr < code_vaddr or wish.window_vaddr + wish.length > code_vaddr + code_size:
            wish.status = wish_refuse(wish, REFUSAL_TRUNCATED)
            continue
        wish.status = wish_make(jumps, wish, code + (wish.window_vaddr - code_vaddr))
    return 0


# ---- trampolines

# Cold parts are given out from an area's end: their run grows downwards.
ctypedef struct runs_t:
    run_t hot
    run_t cold


cdef int run_flush(const jumps_t *jumps, run_t *run) noexcept nogil:
    cdef int status = memory_write(jumps.mem_fd, run.vaddr, run.bytes, run.size) if run.size else 0
    run.size = 0
    return status


cdef int run_append(const jumps_t *jumps, run_t *run, uint64_t vaddr, const uint8_t *bytes, size_t size) noexcept nogil:
    """`size`: a multiple of UNIT, as all addresses are."""
    cdef int status = 0
    cdef bint below = run.size and vaddr + size == run.vaddr
    if run.size and ((run.vaddr + run.size != vaddr and not below) or run.size + size > RUN_BYTES):
        status = run_flush(jumps, run)
    if run.size == 0:
        run.vaddr = vaddr
    elif below:
        memmove(run.bytes + size, run.bytes, run.size)
        memcpy(run.bytes, bytes, size)
        run.vaddr = vaddr
        run.size += size
        return status
    memcpy(run.bytes + run.size, bytes, size)
    run.size += size
    return status


cdef inline bint site_is_wanted(const site_t *site) noexcept nogil:
    return site.armers and site.state & (SITE_LIVE | SITE_JUMP) == SITE_LIVE | SITE_JUMP


cdef inline void purpose_add(uint64_t *purpose, uint64_t value) noexcept nogil:
    purpose[0] = (purpose[0] ^ value) * <uint64_t>0x100000001b3


cdef void arrival_fill(const jumps_t *jumps, uint32_t number, arrival_t *arrival, hitcode_t *room, uint64_t *purpose) noexcept nogil:
    """What is done at one site: it is counted, and its taps. `room`: for ACTIONS_MAX actions."""
    cdef const jump_site_t *site = jump_site_find(&jumps.windows, number)
    cdef uint32_t i
    # Its fields and predicate stay unused.
    room.field_count = room.op_count = 0
    room.board = 0
    room.budget = room.every = 0
    room.action = HIT_COUNT
    room.shift = jumps.windows.board.shift
    room.offset = site.cell * CELL_SIZE
    arrival.offset = site.offset
    arrival.freedom = site.freedom
    arrival.what[0] = room
    arrival.count = 1
    purpose_add(purpose, site.offset)
    for i in range(site.tap_count):
        room[1 + i] = site.taps[i].code[0]
        room[1 + i].board = site.taps[i].literal
        room[1 + i].site = number
        arrival.what[1 + i] = &room[1 + i]
        arrival.count += 1
        purpose_add(purpose, <uint64_t>site.taps[i].code)


cdef size_t window_arrivals(const jumps_t *jumps, uint32_t window, arrival_t *arrivals, uint64_t *purpose) noexcept nogil:
    """The sites of a window that an enabled probe has, by offset, and what is done there; how many."""
    cdef uint32_t number = jumps.windows.windows[window].first
    cdef size_t count = 0
    purpose[0] = <uint64_t>0xcbf29ce484222325
    while number != SITE_NONE and count < WINDOW_INSNS:
        if site_is_wanted(site_at(jumps.sites, number)):
            arrival_fill(jumps, number, &arrivals[count], &jumps.scratch[count * ACTIONS_MAX], purpose)
            count += 1
        number = jump_site_find(&jumps.windows, number).next
    return count


cdef bint window_is_wanted(const jumps_t *jumps, uint32_t window) noexcept nogil:
    """Whether an enabled probe has one of its sites."""
    cdef uint32_t number = jumps.windows.windows[window].first
    while number != SITE_NONE:
        if site_is_wanted(site_at(jumps.sites, number)):
            return True
        number = jump_site_find(&jumps.windows, number).next
    return False


cdef inline uint32_t unit_round(uint32_t size) noexcept nogil:
    return (size + UNIT - 1) // UNIT * UNIT


cdef int trampoline_write(jumps_t *jumps, uint32_t window_number, const arrival_t *arrivals, size_t count,
                          uint64_t purpose, runs_t *runs) noexcept nogil:
    cdef uint8_t bytes[TRAMPOLINE_BYTES]
    cdef uint8_t cold[COLD_BYTES]
    cdef window_t *window = &jumps.windows.windows[window_number]
    cdef hitplace_t common = jumps.windows.board.common
    cdef trampoline_t made
    cdef jump_area_t *area
    cdef uint64_t vaddr, cold_vaddr = (window.vaddr & ~<uint64_t>(UNIT - 1)) + TRIAL_DISTANCE
    cdef uint32_t number, size, cold_size
    cdef int status
    common.gate_vaddr = window.vaddr
    # First anywhere, for the size: all jumps out of it are near ones.
    status = trampoline_make(window.original, window.length, window.vaddr, jumps.decode_options, arrivals, count, &common,
                             cold_vaddr, bytes, TRAMPOLINE_BYTES, cold_vaddr, cold, &made)
    if status:
        return status
    size, cold_size = unit_round(made.size), unit_round(made.cold_size)
    status = trampoline_add(&jumps.windows, window_number, &number)
    if status < 0:
        return status
    area = jump_room_take(&jumps.areas, window.low, window.high, size, cold_size, number, &vaddr, &cold_vaddr)
    if area == NULL:
        trampoline_remove(&jumps.windows, number)
        return STATUS_NO_ROOM
    memset(bytes, OPCODE_INT3, sizeof(bytes))
    memset(cold, OPCODE_INT3, sizeof(cold))
    common.gate_vaddr = area.gate_vaddr
    status = trampoline_make(window.original, window.length, window.vaddr, jumps.decode_options, arrivals, count, &common,
                             vaddr, bytes, size, cold_vaddr, cold, &jumps.windows.trampolines[number])
    if status == STATUS_OK:
        status = run_append(jumps, &runs.hot, vaddr, bytes, size)
    if status == STATUS_OK and cold_size:
        status = run_append(jumps, &runs.cold, cold_vaddr, cold, cold_size)
    jumps.windows.trampolines[number].size = <unsigned short>size
    jumps.windows.trampolines[number].cold_size = <unsigned short>cold_size
    jumps.windows.trampolines[number].purpose = purpose
    if status:
        trampoline_give_back(jumps, number)
        return status
    window.pending = number
    return STATUS_OK


cdef void trampoline_give_back(jumps_t *jumps, uint32_t number) noexcept nogil:
    cdef trampoline_t *old = &jumps.windows.trampolines[number]
    jump_room_put(&jumps.areas, old.vaddr, old.size)
    if old.cold_size:
        jump_room_put(&jumps.areas, old.cold_vaddr, old.cold_size)
    trampoline_remove(&jumps.windows, number)


cdef int window_prepare(jumps_t *jumps, uint32_t number, runs_t *runs) noexcept nogil:
    cdef window_t *window = &jumps.windows.windows[number]
    cdef arrival_t arrivals[WINDOW_INSNS]
    cdef uint64_t purpose
    cdef size_t arrived = window_arrivals(jumps, number, arrivals, &purpose)
    cdef int status
    if window.pending != TRAMPOLINE_NONE:
        if arrived and jumps.windows.trampolines[window.pending].purpose == purpose:
            return STATUS_OK
        run_flush(jumps, &runs.hot)
        run_flush(jumps, &runs.cold)
        window_cancel(jumps, number)
    if arrived == 0 or (window.state & WINDOW_ARMED
                        and jumps.windows.trampolines[window.trampoline].purpose == purpose):
        return STATUS_OK
    status = trampoline_write(jumps, number, arrivals, arrived, purpose, runs)
    if status == STATUS_REFUSED:
        window.state |= WINDOW_REFUSED
        return STATUS_OK
    return status


cdef int jumps_prepare(jumps_t *jumps, const uint32_t *windows, size_t count, uint32_t *missing) noexcept nogil:
    cdef runs_t runs
    cdef size_t i
    cdef int status = 0, flushed
    runs.hot.size = runs.cold.size = 0
    if jumps.scratch == NULL:
        jumps.scratch = <hitcode_t *>calloc(WINDOW_INSNS * ACTIONS_MAX, sizeof(hitcode_t))
        if jumps.scratch == NULL:
            return -ENOMEM
    if jumps.journal != NULL:
        status = journal_reserve(jumps.journal, <uint32_t>count)
        if status < 0:
            return status
    for i in range(count):
        jumps.windows.windows[windows[i]].state &= ~<unsigned int>WINDOW_REFUSED
        status = window_prepare(jumps, windows[i], &runs)
        if status:
            missing[0] = windows[i]
            break
    flushed = run_flush(jumps, &runs.hot)
    if flushed == 0:
        flushed = run_flush(jumps, &runs.cold)
    return status if status else flushed


cdef void window_cancel(jumps_t *jumps, uint32_t window) noexcept nogil:
    cdef uint32_t number = jumps.windows.windows[window].pending
    jumps.windows.windows[window].pending = TRAMPOLINE_NONE
    if number != TRAMPOLINE_NONE:
        trampoline_free(jumps, number)


cdef bint trampoline_is_idle(const jumps_t *jumps, uint32_t trampoline) noexcept nogil:
    cdef uint32_t window = jumps.windows.trampoline_window[trampoline]
    if jumps.windows.trampolines[trampoline].size == 0:
        return False
    if window == WINDOW_NONE:
        return True
    return (jumps.windows.windows[window].pending != trampoline
            and not (jumps.windows.windows[window].state & WINDOW_ARMED
                     and jumps.windows.windows[window].trampoline == trampoline))


cdef int trampoline_free(jumps_t *jumps, uint32_t trampoline) noexcept nogil:
    cdef uint8_t filler[TRAMPOLINE_BYTES]
    cdef trampoline_t *old = &jumps.windows.trampolines[trampoline]
    cdef int status
    memset(filler, OPCODE_INT3, sizeof(filler))
    status = memory_write(jumps.mem_fd, old.vaddr, filler, old.size)
    if status == 0 and old.cold_size:
        status = memory_write(jumps.mem_fd, old.cold_vaddr, filler, old.cold_size)
    trampoline_give_back(jumps, trampoline)
    return status


# ---- text

cdef void jump_write(const window_t *window, uint64_t to_vaddr, uint8_t *bytes) noexcept nogil:
    cdef uint32_t distance = <uint32_t>(to_vaddr - window.vaddr - JUMP_SIZE)
    bytes[0] = OPCODE_JMP
    memcpy(bytes + 1, &distance, 4)


cdef void window_expected(const jumps_t *jumps, const window_t *window, uint8_t *bytes) noexcept nogil:
    """What the window's bytes are now, if nobody else has written there."""
    memcpy(bytes, window.original, window.length)
    if window.state & WINDOW_ARMED:
        jump_write(window, jumps.windows.trampolines[window.trampoline].vaddr, bytes)


cdef bint window_is_due(const jumps_t *jumps, uint32_t window) noexcept nogil:
    if jumps.windows.windows[window].state & WINDOW_CHANGED:
        return False
    if jumps.windows.windows[window].pending != TRAMPOLINE_NONE:
        return True
    return jumps.windows.windows[window].state & WINDOW_ARMED and not window_is_wanted(jumps, window)


cdef int patch_record(jumps_t *jumps, const window_t *window, const uint8_t *patch, uint32_t *number) noexcept nogil:
    """Writes down that the text may have this jump from now on. The record of the jump before stays until it is gone."""
    cdef journal_entry_t record
    number[0] = RECORD_UNNUMBERED
    if jumps.journal == NULL or window.pending == TRAMPOLINE_NONE:
        return 0
    memset(&record, 0, sizeof(journal_entry_t))
    record.kind = RECORD_PATCH
    record.flags = RECORD_JUMP
    record.length = record.insn_length = JUMP_SIZE
    record.vaddr = window.vaddr
    record.place_vaddr = jumps.windows.trampolines[window.pending].vaddr
    memcpy(record.original, window.original, JUMP_SIZE)
    memcpy(record.patched, patch, JUMP_SIZE)
    return journal_append(jumps.journal, &record, number)


cdef void patch_forget(jumps_t *jumps, uint32_t record) noexcept nogil:
    if record != RECORD_UNNUMBERED:
        journal_drop(jumps.journal, record)


cdef int window_patch(jumps_t *jumps, uint32_t window_number) noexcept nogil:
    cdef window_t *window = &jumps.windows.windows[window_number]
    cdef uint8_t expected[WINDOW_BYTES]
    cdef uint8_t there[WINDOW_BYTES]
    cdef uint8_t patch[JUMP_SIZE]
    cdef uint32_t record
    cdef int status = memory_read(jumps.mem_fd, window.vaddr, there, window.length)
    window_expected(jumps, window, expected)
    if status < 0 or memcmp(there, expected, window.length):
        # Somebody else wrote here, or the mapping is gone: what is there is not ours to overwrite.
        window.state = (window.state | WINDOW_CHANGED) & ~<unsigned int>WINDOW_ARMED
        patch_forget(jumps, window.record)
        window.record = RECORD_UNNUMBERED
        return STATUS_CHANGED
    if window.pending != TRAMPOLINE_NONE:
        jump_write(window, jumps.windows.trampolines[window.pending].vaddr, patch)
    else:
        memcpy(patch, window.original, JUMP_SIZE)
    status = patch_record(jumps, window, patch, &record)
    if status < 0:
        return status
    # Within one page, so that it is written as a whole or, should the tracer be killed, not at all.
    status = memory_write(jumps.mem_fd, window.vaddr, patch, JUMP_SIZE)
    patch_forget(jumps, record if status < 0 else window.record)
    if status < 0:
        return status
    window.record = record
    window.trampoline = window.pending
    if window.pending != TRAMPOLINE_NONE:
        window.state |= WINDOW_ARMED
    else:
        window.state &= ~<unsigned int>WINDOW_ARMED
    window.pending = TRAMPOLINE_NONE
    return 0


cdef uint32_t record_of_patch(const journal_t *journal, uint64_t vaddr) noexcept nogil:
    """The journal's record of a jump at `vaddr`, or RECORD_UNNUMBERED."""
    cdef const journal_entry_t *record
    cdef uint32_t number
    for number in range(journal.head.chunks << JOURNAL_CHUNK_SHIFT if journal != NULL else 0):
        record = journal_record(journal, number)
        if record.kind == RECORD_PATCH and record.flags & RECORD_JUMP and record.vaddr == vaddr:
            return number
    return RECORD_UNNUMBERED


cdef int window_adopt(jumps_t *jumps, uint64_t vaddr, const uint8_t *original, uint8_t length, uint64_t trampoline_vaddr,
                      uint32_t trampoline_size, uint64_t cold_vaddr, uint32_t cold_size, uint32_t *number) noexcept nogil:
    cdef uint8_t expected[WINDOW_BYTES]
    cdef uint8_t there[WINDOW_BYTES]
    cdef window_t *window
    cdef uint32_t trampoline
    cdef int status = window_add(&jumps.windows, vaddr, original, length, number)
    if status == 0:
        status = trampoline_add(&jumps.windows, number[0], &trampoline)
    if status < 0:
        return status
    memset(&jumps.windows.trampolines[trampoline], 0, sizeof(trampoline_t))
    jumps.windows.trampolines[trampoline].vaddr = trampoline_vaddr
    jumps.windows.trampolines[trampoline].size = <unsigned short>trampoline_size
    jumps.windows.trampolines[trampoline].cold_vaddr = cold_vaddr
    jumps.windows.trampolines[trampoline].cold_size = <unsigned short>cold_size
    window = &jumps.windows.windows[number[0]]
    window.trampoline = trampoline
    window.state = WINDOW_ARMED
    window_expected(jumps, window, expected)
    if memory_read(jumps.mem_fd, vaddr, there, length) < 0 or memcmp(there, expected, length):
        window.state = WINDOW_CHANGED
        trampoline_remove(&jumps.windows, trampoline)
        return STATUS_CHANGED
    jump_room_claim(&jumps.areas, trampoline_vaddr, trampoline_size, trampoline)
    jump_room_claim(&jumps.areas, cold_vaddr, cold_size, trampoline)
    window.record = record_of_patch(jumps.journal, vaddr)
    return 0


cdef void jumps_hide(const jumps_t *jumps, uint64_t vaddr, uint8_t *bytes, size_t size) noexcept nogil:
    cdef uint8_t patch[JUMP_SIZE]
    cdef const window_t *window
    cdef uint64_t offset
    cdef uint32_t place = window_after(&jumps.windows, vaddr)
    cdef int i
    while place < jumps.windows.count and jumps.windows.order[place].vaddr < vaddr + size:
        window = &jumps.windows.windows[jumps.windows.order[place].window]
        place += 1
        if not window.state & WINDOW_ARMED:
            continue
        jump_write(window, jumps.windows.trampolines[window.trampoline].vaddr, patch)
        for i in range(JUMP_SIZE):
            offset = window.vaddr + i - vaddr
            if offset < size and bytes[offset] == patch[i]:
                bytes[offset] = window.original[i]


cdef void jumps_clean(const jumps_t *jumps, int mem_fd) noexcept nogil:
    cdef uint8_t patch[JUMP_SIZE]
    cdef uint8_t there[JUMP_SIZE]
    cdef const window_t *window
    cdef uint32_t place
    for place in range(jumps.windows.count):
        window = &jumps.windows.windows[jumps.windows.order[place].window]
        if not window.state & WINDOW_ARMED:
            continue
        jump_write(window, jumps.windows.trampolines[window.trampoline].vaddr, patch)
        if memory_read(mem_fd, window.vaddr, there, JUMP_SIZE) == 0 and memcmp(there, patch, JUMP_SIZE) == 0:
            memory_write(mem_fd, window.vaddr, window.original, JUMP_SIZE)
