"""Sites that are served without a stop: the part of a Tracer that handles windows, areas and the board.

As with the Tracer, numbers cross and not objects; only the owner thread may call, but for nothing here.
"""

from array import array

from libc.errno cimport EINVAL, ETIMEDOUT
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from uprobe_core.abi cimport INSN_MAX, OPERAND_NONE, PLAN_ONE_STOP, WAY_JUMP, regs_t
from uprobe_core.linux.memory cimport memory_read, memory_write
from uprobe_core.linux.ptrace cimport regs_get, rseq_configuration_t, rseq_get
from uprobe_core.patch.jump_areas cimport UNIT, UNIT_TAKEN, jump_area_add, jump_area_t, jump_areas_drop
from uprobe_core.patch.jumps cimport (
    jump_wish_t, jumps_insert, jumps_prepare, window_adopt, window_is_taken,
)
from uprobe_core.patch.sites cimport SITE_JUMP, SITE_LIVE, SITE_NONE, site_add, site_at, site_t
from uprobe_core.patch.windows cimport (
    LITERALS, WINDOW_ARMED, WINDOW_BUSY, WINDOW_CHANGED, WINDOW_LEAVING, WINDOW_NONE, WINDOW_REFUSED, jump_hits_fold,
    jump_site_find, jump_site_link, jump_site_t, jump_tap_tie, jump_tap_untie, window_at, window_t, windows_drop,
)
from uprobe_core.status cimport STATUS_OK
from uprobe_core.trace.engine cimport engine_t
from uprobe_core.trace.repatch cimport trampolines_reclaim, windows_apply, windows_demote
from uprobe_core.trace.world cimport world_resume, world_stop
from uprobe_core.x86.hitplan cimport HitPlan
from uprobe_core.x86.liveness cimport LIVENESS_FLAGS, liveness_at, liveness_t
from uprobe_core.x86.trampoline cimport TRAMPOLINE_BYTES, WINDOW_BYTES, freedom_t, trampoline_t

cdef enum:
    STOP_MS = 2000
    TID_WORDS = 512     # looked at from the thread pointer on
    TID_GLIBC = 0x2d0   # where glibc of x86-64 has it since 2.4

# The arguments of one call into the tracer.
ctypedef struct jump_order_t:
    engine_t *engine
    const uint32_t *windows
    size_t count
    jump_wish_t *wishes
    const uint8_t *code
    uint64_t code_vaddr, code_size
    uint32_t missing
    int64_t rseq_off
    uint32_t signature
    int tid_off


cdef int order_insert(void *argument) noexcept nogil:
    cdef jump_order_t *order = <jump_order_t *>argument
    return jumps_insert(&order.engine.text.jumps, order.wishes, order.count, order.code, order.code_vaddr, order.code_size)


cdef int order_prepare(void *argument) noexcept nogil:
    cdef jump_order_t *order = <jump_order_t *>argument
    return jumps_prepare(&order.engine.text.jumps, order.windows, order.count, &order.missing)


cdef int order_apply(void *argument) noexcept nogil:
    cdef jump_order_t *order = <jump_order_t *>argument
    cdef int status = world_stop(order.engine, STOP_MS)
    if status == 0:
        status = windows_apply(order.engine, order.windows, order.count)
    world_resume(order.engine)
    return status


cdef int order_demote(void *argument) noexcept nogil:
    cdef jump_order_t *order = <jump_order_t *>argument
    cdef int status = world_stop(order.engine, STOP_MS)
    if status == 0:
        status = windows_demote(order.engine, order.windows, order.count)
    world_resume(order.engine)
    return status


cdef int order_reclaim(void *argument) noexcept nogil:
    cdef jump_order_t *order = <jump_order_t *>argument
    cdef int status = world_stop(order.engine, STOP_MS)
    if status == 0:
        status = trampolines_reclaim(order.engine)
    world_resume(order.engine)
    return status


cdef int order_open(void *argument) noexcept nogil:
    cdef engine_t *engine = (<jump_order_t *>argument).engine
    cdef uint64_t literals[LITERALS]
    cdef uint32_t i
    cdef int literal, status = 0
    for literal in range(LITERALS):
        literals[literal] = 0 - engine.text.jumps.windows.shared[literal].vaddr
    for i in range(engine.text.jumps.areas.count):
        if status == 0:
            status = memory_write(engine.text.mem_fd, engine.text.jumps.areas.areas[i].gate_vaddr, literals,
                                  sizeof(literals))
    return status


cdef int rseq_find(jump_order_t *order) noexcept nogil:
    """Where struct rseq is from the thread pointer, if that is so in all threads."""
    cdef engine_t *engine = order.engine
    cdef rseq_configuration_t configuration
    cdef regs_t regs
    cdef int64_t offset
    cdef uint32_t i
    cdef int status
    cdef bint first = True
    for i in range(engine.tasks.mask + 1):
        if not engine.tasks.table[i].tid:
            continue
        status = <int>rseq_get(engine.tasks.table[i].tid, &configuration)
        if status == 0:
            status = <int>regs_get(engine.tasks.table[i].tid, &regs)
        if status < 0:
            return status
        offset = <int64_t>(configuration.pointer - regs.fs_base)
        if offset != <int32_t>offset or offset == 0 or not (first or offset == order.rseq_off
                                                           and configuration.signature == order.signature):
            return -EINVAL
        order.rseq_off = offset
        order.signature = configuration.signature
        first = False
    return -EINVAL if first else 0


cdef int tid_find(engine_t *engine) noexcept nogil:
    """Where each thread finds its own number, from the thread pointer; 0: not known. glibc keeps it in struct pthread,
    which the thread pointer leads to; a place that fits several threads, or glibc's of today, is believed."""
    cdef uint32_t words[TID_WORDS]
    cdef regs_t regs
    cdef uint8_t fits[TID_WORDS]
    cdef uint32_t i, seen = 0
    cdef int word
    memset(fits, 1, sizeof(fits))
    for i in range(engine.tasks.mask + 1):
        if not engine.tasks.table[i].tid:
            continue
        if (regs_get(engine.tasks.table[i].tid, &regs) < 0
                or memory_read(engine.text.mem_fd, regs.fs_base, words, sizeof(words)) < 0):
            return 0
        for word in range(TID_WORDS):
            fits[word] &= words[word] == <uint32_t>engine.tasks.table[i].tid
        seen += 1
    if fits[TID_GLIBC // 4]:
        return TID_GLIBC
    for word in range(1, TID_WORDS if seen > 1 else 0):
        if fits[word]:
            return word * 4
    return 0


cdef int order_rseq(void *argument) noexcept nogil:
    cdef jump_order_t *order = <jump_order_t *>argument
    cdef int status = world_stop(order.engine, STOP_MS)
    if status == 0:
        order.tid_off = tid_find(order.engine)
        status = rseq_find(order)
    world_resume(order.engine)
    return status


cdef bint site_is_jumped(const engine_t *engine, uint32_t number) noexcept nogil:
    cdef const jump_site_t *jump = jump_site_find(&engine.text.jumps.windows, number)
    return (site_at(&engine.text.sites, number).state & (SITE_LIVE | SITE_JUMP) == SITE_LIVE | SITE_JUMP
            and jump != NULL and jump.window != WINDOW_NONE
            and engine.text.jumps.windows.windows[jump.window].state & WINDOW_ARMED)


cdef void freedom_find(uint64_t vaddr, uint64_t start, uint64_t end, bint called, const uint8_t *image, uint64_t image_vaddr,
                       uint64_t image_size, uint32_t options, freedom_t *freedom) noexcept nogil:
    """What hit code in front of the instruction at `vaddr` may change; nothing where its function is not known."""
    cdef liveness_t live
    memset(freedom, 0, sizeof(freedom_t))
    freedom.red_zone = True
    if start == 0 or start < image_vaddr or end > image_vaddr + image_size or not start <= vaddr < end:
        return
    liveness_at(image + (start - image_vaddr), end - start, start, options, vaddr, called and vaddr == start, &live)
    freedom.dead = live.dead_gprs
    freedom.flags_dead = live.dead_flags == LIVENESS_FLAGS
    freedom.red_zone = live.red_zone


cdef class Jumps:
    """The windows, areas and the board of one Tracer."""

    def __cinit__(self, Tracer tracer not None):
        self.tracer = tracer

    cdef int call(self, int (*function)(void *) noexcept nogil, void *argument) except? -1:
        (<jump_order_t *>argument).engine = &self.tracer.engine
        return self.tracer.call_with(function, argument)

    def rseq(self):
        """(offset of struct rseq from the thread pointer, signature, offset of a thread's own number from there or 0),
        the same in all threads; None: it is not so."""
        cdef jump_order_t order
        try:
            self.call(order_rseq, &order)
        except OSError as error:
            if error.errno == ETIMEDOUT:
                raise
            return None
        return order.rseq_off, order.signature, order.tid_off

    # ---- the board, and areas

    def share(self, uint32_t literal, uint64_t vaddr, uint64_t size):
        """The gates' literal leads to a board of `size` bytes at `vaddr` in the target, once open_gates() was called;
        vaddr 0: it is closed."""
        if literal >= LITERALS:
            raise ValueError(f"literal {literal}: a gate page has {LITERALS}")
        self.tracer.engine.text.jumps.windows.shared[literal].vaddr = vaddr
        self.tracer.engine.text.jumps.windows.shared[literal].size = size

    def set_board(self, const uint8_t[::1] memory, uint32_t processors, int shift, rseq_offset, uint32_t signature,
                  bint has_rdpid, int tid_offset):
        """Counters lie in `memory`, which the target shares as literal 0, 1 << shift bytes for each processor."""
        self.board_memory = memory
        self.tracer.engine.text.jumps.windows.board.bytes = &memory[0]
        self.tracer.engine.text.jumps.windows.board.processors = processors
        self.tracer.engine.text.jumps.windows.board.cells = (<uint32_t>1 << shift) // 8
        self.tracer.engine.text.jumps.windows.board.shift = shift
        self.tracer.engine.text.jumps.windows.board.common.has_rseq = rseq_offset is not None
        self.tracer.engine.text.jumps.windows.board.common.rseq_offset = rseq_offset or 0
        self.tracer.engine.text.jumps.windows.board.common.signature = signature
        self.tracer.engine.text.jumps.windows.board.common.has_rdpid = has_rdpid
        self.tracer.engine.text.jumps.windows.board.common.tid_offset = tid_offset

    @property
    def cells_used(self):
        """Counters of the board that sites have, from the first."""
        return self.tracer.engine.text.jumps.windows.board.used

    def open_gates(self):
        """Every area's gate page gets the address of the board: what is hit counts."""
        cdef jump_order_t order
        self.call(order_open, &order)

    def add_area(self, uint64_t gate_vaddr, uint64_t vaddr, uint64_t size, bint sealed):
        """Take a mapping in: its gate page, and its code."""
        if jump_area_add(&self.tracer.engine.text.jumps.areas, gate_vaddr, vaddr, size, sealed) < 0:
            raise MemoryError(f"no memory for an area of {size} bytes")

    def keep(self, uint64_t vaddr, uint64_t size):
        """Bytes of the last area that are not to be given out."""
        cdef jump_area_t *area
        cdef uint32_t unit
        area = &self.tracer.engine.text.jumps.areas.areas[self.tracer.engine.text.jumps.areas.count - 1]
        for unit in range((vaddr - area.vaddr) // UNIT, min((vaddr + size - area.vaddr + UNIT - 1) // UNIT, area.units)):
            area.free -= area.owners[unit] != UNIT_TAKEN
            area.owners[unit] = UNIT_TAKEN

    def areas(self):
        """(gate address, address of the code, its bytes, free ones) of each area."""
        cdef jump_area_t *area
        found = []
        for i in range(self.tracer.engine.text.jumps.areas.count):
            area = &self.tracer.engine.text.jumps.areas.areas[i]
            found.append((area.gate_vaddr, area.vaddr, area.size, area.free * UNIT))
        return found

    def forget(self):
        """All windows and areas are gone, as after an exec, or will not be used any more. The counts stay."""
        with_sites = self.tracer.engine.text.jumps.windows.chunks != NULL
        if with_sites:
            jump_hits_fold(&self.tracer.engine.text.jumps.windows, &self.tracer.engine.text.sites)
        windows_drop(&self.tracer.engine.text.jumps.windows)
        jump_areas_drop(&self.tracer.engine.text.jumps.areas)
        self.board_memory = None

    # ---- sites and windows

    def insert(self, const uint64_t[::1] vaddrs, const uint64_t[::1] starts, const uint8_t[::1] lengths,
               const uint64_t[::1] functions, const uint64_t[::1] ends, const uint8_t[::1] called, uint64_t low,
               uint64_t high,
               const uint8_t[::1] image, uint64_t image_vaddr, uint32_t[::1] numbers):
        """Insert a site at each address, not yet enabled; the engine's numbers go to `numbers`.

        starts, lengths: of the window of each. functions, ends: of the function that each is in, 0 where that is not
        known; called: whether that is a function, and not a part of one that is only jumped to. low, high: what a
        trampoline must reach. image: the file's bytes at image_vaddr. Returns the refusals as a list of (index, refusal).
        """
        cdef Py_ssize_t count = vaddrs.shape[0]
        cdef jump_order_t order
        cdef jump_wish_t *wishes = <jump_wish_t *>calloc(max(count, 1), sizeof(jump_wish_t))
        cdef Py_ssize_t i
        if wishes == NULL:
            raise MemoryError(f"no memory for {count} insertions")
        refused = []
        try:
            for i in range(count):
                wishes[i].vaddr = vaddrs[i]
                wishes[i].window_vaddr = starts[i]
                wishes[i].length = lengths[i]
                freedom_find(vaddrs[i], functions[i], ends[i], called[i], &image[0], image_vaddr, image.shape[0],
                             self.tracer.engine.text.decode_options, &wishes[i].freedom)
                wishes[i].low = low
                wishes[i].high = high
            order.wishes = wishes
            order.count = count
            order.code = &image[0]
            order.code_vaddr = image_vaddr
            order.code_size = image.shape[0]
            self.call(order_insert, &order)
            for i in range(count):
                numbers[i] = wishes[i].site
                if wishes[i].status < 0:
                    raise OSError(-wishes[i].status, f"cannot insert a site at {wishes[i].vaddr:#x}")
                if wishes[i].status:
                    refused.append((i, wishes[i].refusal))
        finally:
            free(wishes)
        return refused

    def tie(self, const uint32_t[::1] sites, HitPlan plan, uint32_t literal):
        """From now on, where jumps serve these sites, `plan` is done too, on the board of a literal. The caller keeps the
        plan until untie(). Sites that have too many of them already are returned."""
        cdef Py_ssize_t i
        left = array("I")
        for i in range(sites.shape[0]):
            if jump_tap_tie(&self.tracer.engine.text.jumps.windows, sites[i], &plan.code, literal):
                left.append(sites[i])
        return left

    def untie(self, const uint32_t[::1] sites, HitPlan plan):
        """The opposite."""
        cdef Py_ssize_t i
        for i in range(sites.shape[0]):
            jump_tap_untie(&self.tracer.engine.text.jumps.windows, sites[i], &plan.code)

    def sites_served(self):
        """All sites whose windows have their jumps in the text."""
        found = array("I")
        for number in range(self.tracer.engine.text.sites.count):
            if site_is_jumped(&self.tracer.engine, number):
                found.append(number)
        return found

    def served(self, const uint32_t[::1] sites):
        """Those of these sites that jumps serve."""
        cdef Py_ssize_t i
        found = array("I")
        for i in range(sites.shape[0]):
            if site_at(&self.tracer.engine.text.sites, sites[i]).state & SITE_JUMP:
                found.append(sites[i])
        return found

    def windows_of(self, const uint32_t[::1] sites):
        """The windows that serve these sites, each once; sites that traps serve have none."""
        cdef jump_site_t *jump
        cdef Py_ssize_t i
        found = {}
        for i in range(sites.shape[0]):
            if site_at(&self.tracer.engine.text.sites, sites[i]).state & SITE_JUMP:
                jump = jump_site_find(&self.tracer.engine.text.jumps.windows, sites[i])
                if jump != NULL and jump.window != WINDOW_NONE:
                    found[jump.window] = None
        return array("I", found)

    def windows_at(self, const uint64_t[::1] vaddrs):
        """The windows in use that have these addresses among their bytes, each once."""
        cdef Py_ssize_t i
        found = {}
        for i in range(vaddrs.shape[0]):
            if window_is_taken(&self.tracer.engine.text.jumps, vaddrs[i]):
                found[window_at(&self.tracer.engine.text.jumps.windows, vaddrs[i])] = None
        return array("I", found)

    def sites_in(self, const uint32_t[::1] windows):
        """The sites that these windows serve: their numbers."""
        cdef uint32_t number
        cdef Py_ssize_t i
        found = array("I")
        for i in range(windows.shape[0]):
            number = self.tracer.engine.text.jumps.windows.windows[windows[i]].first
            while number != SITE_NONE:
                if site_at(&self.tracer.engine.text.sites, number).state & (SITE_LIVE | SITE_JUMP) == SITE_LIVE | SITE_JUMP:
                    found.append(number)
                number = jump_site_find(&self.tracer.engine.text.jumps.windows, number).next
        return found

    def prepare(self, const uint32_t[::1] windows):
        """Write the trampolines that are missing. None, or what an area has to reach, (low, high), to have room."""
        cdef jump_order_t order
        cdef window_t *window
        if windows.shape[0] == 0:
            return None
        order.windows = &windows[0]
        order.count = windows.shape[0]
        if self.call(order_prepare, &order) == STATUS_OK:
            return None
        window = &self.tracer.engine.text.jumps.windows.windows[order.missing]
        return window.low, window.high

    def apply(self, const uint32_t[::1] windows):
        """Stop all threads and write the patches. The windows that could not be: (those into which a thread will return,
        those whose bytes somebody has changed, or where what is wanted needs a stop)."""
        cdef jump_order_t order
        cdef Py_ssize_t i
        busy, changed = array("I"), array("I")
        if windows.shape[0] == 0:
            return busy, changed
        order.windows = &windows[0]
        order.count = windows.shape[0]
        self.call(order_apply, &order)
        for i in range(windows.shape[0]):
            state = self.tracer.engine.text.jumps.windows.windows[windows[i]].state
            if state & WINDOW_BUSY:
                busy.append(windows[i])
            if state & (WINDOW_CHANGED | WINDOW_REFUSED):
                changed.append(windows[i])
        return busy, changed

    def set_leaving(self, const uint32_t[::1] windows, bint leaving):
        """Whether sites in these windows may be planned for traps."""
        cdef Py_ssize_t i
        for i in range(windows.shape[0]):
            if leaving:
                self.tracer.engine.text.jumps.windows.windows[windows[i]].state |= WINDOW_LEAVING
            else:
                self.tracer.engine.text.jumps.windows.windows[windows[i]].state &= ~<unsigned int>WINDOW_LEAVING

    def demote(self, const uint32_t[::1] windows):
        """Stop all threads; the sites of these windows are served by traps from now on."""
        cdef jump_order_t order
        if windows.shape[0]:
            order.windows = &windows[0]
            order.count = windows.shape[0]
            self.call(order_demote, &order)

    # ---- jumps that stand without a tracer

    def windows(self):
        """The windows whose jump is in the text: (address, original bytes, address of the trampoline, its bytes, address of
        its cold part, that one's bytes) each."""
        cdef window_t *window
        cdef trampoline_t *trampoline
        cdef uint32_t i
        found = []
        for i in range(self.tracer.engine.text.jumps.windows.count):
            window = &self.tracer.engine.text.jumps.windows.windows[self.tracer.engine.text.jumps.windows.order[i].window]
            if window.state & WINDOW_ARMED:
                trampoline = &self.tracer.engine.text.jumps.windows.trampolines[window.trampoline]
                found.append((window.vaddr, window.original[:window.length], trampoline.vaddr, trampoline.size,
                              trampoline.cold_vaddr, trampoline.cold_size))
        return found

    def cell(self, uint32_t number):
        """(counter of a site on the board, its count beside that one's)."""
        return (jump_site_find(&self.tracer.engine.text.jumps.windows, number).cell,
                site_at(&self.tracer.engine.text.sites, number).hits)

    def adopt_window(self, uint64_t vaddr, const uint8_t[::1] original, uint64_t trampoline_vaddr,
                     uint32_t trampoline_size, uint64_t cold_vaddr, uint32_t cold_size, uint64_t low, uint64_t high):
        """Take in a window whose jump an earlier tracer has left; its number, or None: its text is not so any more.
        low, high: what a trampoline must reach."""
        cdef uint32_t number
        cdef int status
        if not 5 <= original.shape[0] <= WINDOW_BYTES or trampoline_size > TRAMPOLINE_BYTES or cold_size > TRAMPOLINE_BYTES:
            raise ValueError(f"a window of {original.shape[0]} bytes, a trampoline of {trampoline_size}")
        status = window_adopt(&self.tracer.engine.text.jumps, vaddr, &original[0], original.shape[0], trampoline_vaddr,
                              trampoline_size, cold_vaddr, cold_size, &number)
        if status < 0:
            raise MemoryError("no memory for a window")
        if status:
            return None
        self.tracer.engine.text.jumps.windows.windows[number].low = low
        self.tracer.engine.text.jumps.windows.windows[number].high = high
        return number

    def adopt_site(self, uint32_t window, uint64_t vaddr, int length, uint32_t cell, uint64_t hits):
        """Take in a site in such a window; its number. cell, hits: as cell() said."""
        cdef window_t *there = &self.tracer.engine.text.jumps.windows.windows[window]
        cdef freedom_t freedom
        cdef uint32_t number
        cdef site_t *site
        cdef uint64_t offset = vaddr - there.vaddr
        if offset + length > there.length or not 1 <= length <= INSN_MAX:
            raise ValueError(f"{vaddr:#x}: no instruction of the window at {there.vaddr:#x}")
        # What its code may change is found out again when the site is inserted again; until then it changes nothing.
        memset(&freedom, 0, sizeof(freedom))
        freedom.red_zone = True
        if (site_add(&self.tracer.engine.text.sites, vaddr, &number) < 0
                or jump_site_link(&self.tracer.engine.text.jumps.windows, number, window, <uint8_t>offset, &freedom)):
            raise MemoryError("no memory for a site")
        jump_site_find(&self.tracer.engine.text.jumps.windows, number).cell = cell
        self.tracer.engine.text.jumps.windows.board.used = max(self.tracer.engine.text.jumps.windows.board.used, cell + 1)
        site = site_at(&self.tracer.engine.text.sites, number)
        site.plan = PLAN_ONE_STOP | WAY_JUMP
        site.state = SITE_LIVE | SITE_JUMP
        site.operand = OPERAND_NONE
        site.length = length
        site.hits = hits
        memcpy(site.original, there.original + offset, length)
        return number

    def reclaim(self):
        """Stop all threads and free the trampolines that nothing leads to and no thread is in; how many."""
        cdef jump_order_t order
        return self.call(order_reclaim, &order)

    def describe(self, uint32_t number):
        """(address of the window, its bytes, address of the trampoline or 0, its bytes) of a site."""
        cdef jump_site_t *jump = jump_site_find(&self.tracer.engine.text.jumps.windows, number)
        cdef window_t *window
        cdef trampoline_t *trampoline
        if jump == NULL or jump.window == WINDOW_NONE:
            return None
        window = &self.tracer.engine.text.jumps.windows.windows[jump.window]
        if not window.state & WINDOW_ARMED:
            return window.vaddr, window.length, 0, 0
        trampoline = &self.tracer.engine.text.jumps.windows.trampolines[window.trampoline]
        return window.vaddr, window.length, trampoline.vaddr, trampoline.size
