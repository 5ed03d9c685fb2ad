"""The engine's Python face: one Tracer a target, used by one thread, its owner.

Numbers cross, not objects: arrays of addresses go in, arrays of site numbers come out. Every method that touches the
target runs in the tracer (see linux/twin.pxd) with the GIL released. Statuses are those of uprobe_core.status; negative
ones are -errno and are raised as OSError.
"""

import os

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport EIO
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset
from posix.types cimport pid_t

from uprobe_core.abi cimport SLOT_SIZE, regs_t
from uprobe_core.linux.doorbell cimport bell_ring
from uprobe_core.linux.memory cimport memory_read, memory_read_some, memory_write
from uprobe_core.linux.remote_call cimport gadget_t, remote_begin, remote_end, remote_syscall, remote_t
from uprobe_core.linux.twin cimport twin_call, twin_is_lost, twin_start, twin_stop
from uprobe_core.patch.arenas cimport arena_add, arena_slot_take, slot_vaddr
from uprobe_core.patch.sites cimport SITE_CALLBACK, SITE_LIVE, SLOT_NONE, site_at, site_t, sites_bytes, sites_reserve
from uprobe_core.patch.text cimport (
    image_t, insertion_t, needs_add, needs_clear, slot_needs_t, text_arm, text_disarm, text_drop, text_insert, text_make, text_rewrite,
)
from uprobe_core.status cimport STATUS_NO_ROOM, STATUS_OK, STATUS_REFUSED
from uprobe_core.patch.traps cimport traps_add_area, traps_drop
from uprobe_core.trace.engine cimport (
    LOOP_AREA, LOOP_BELL, LOOP_ENDED, LOOP_EXEC, LOOP_HIT, LOOP_IN_PLACE, LOOP_NONE, LOOP_ORPHANED, engine_t,
)
from uprobe_core.trace.guard cimport gadget_choose
from uprobe_core.trace.hit cimport hit_resume
from uprobe_core.trace.in_place cimport step_in_place
from uprobe_core.trace.loop cimport loop_run
from uprobe_core.trace.start cimport target_go, target_run_to
from uprobe_core.trace.taps cimport taps_drop
from uprobe_core.trace.tasks cimport task_find, task_t, tasks_drop, tasks_make
from uprobe_core.trace.world cimport (
    calls_serve, engine_leave, slots_reclaim, task_halt, task_release, world_resume, world_seize, world_stop,
)

from uprobe_core.x86.decode cimport DECODE_64

cdef extern from "decode_options.h" nogil:
    uint32_t decode_host_vendor()

AREA = LOOP_AREA
BELL = LOOP_BELL
HIT = LOOP_HIT
EXEC = LOOP_EXEC
ENDED = LOOP_ENDED

REGISTERS = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "orig_rax",
    "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
)

cdef enum:
    INSERT_BATCH = 16384  # sites in one call into the tracer


cdef int order_seize(void *argument) noexcept nogil:
    return world_seize((<order_t *>argument).engine)


cdef int order_run(void *argument) noexcept nogil:
    cdef engine_t *engine = (<order_t *>argument).engine
    cdef int status = loop_run(engine)
    while status == LOOP_IN_PLACE:
        status = step_in_place(engine)
        if status == 0:
            status = loop_run(engine)
    if status == LOOP_BELL:
        calls_serve(engine)
    return status


cdef int order_resume(void *argument) noexcept nogil:
    """Sends the task at the hit on its way."""
    cdef order_t *order = <order_t *>argument
    cdef engine_t *engine = order.engine
    cdef task_t *task = task_find(&engine.tasks, engine.hit_tid)
    cdef int status
    if task == NULL:
        return 0
    status = hit_resume(engine, task, site_at(&engine.text.sites, engine.hit_site), order.regs)
    return step_in_place(engine) if status == LOOP_IN_PLACE else status


cdef int order_insert(void *argument) noexcept nogil:
    cdef order_t *order = <order_t *>argument
    return text_insert(&order.engine.text, order.insertions, order.count, order.mode, order.strategy, order.near,
                       &order.image)


cdef int order_rewrite(void *argument) noexcept nogil:
    cdef order_t *order = <order_t *>argument
    return text_rewrite(&order.engine.text, order.vaddr, order.vaddr + order.count)


cdef int order_arm(void *argument) noexcept nogil:
    cdef order_t *order = <order_t *>argument
    return text_arm(&order.engine.text, order.sites, order.count, &order.done)


cdef int order_disarm(void *argument) noexcept nogil:
    cdef order_t *order = <order_t *>argument
    return text_disarm(&order.engine.text, order.sites, order.count, &order.done)


cdef int order_call(void *argument) noexcept nogil:
    cdef order_t *order = <order_t *>argument
    cdef engine_t *engine = order.engine
    cdef remote_t remote
    cdef gadget_t gadget
    cdef int status, ended
    status = task_halt(engine, order.tid, order.deadline_ms)
    if status < 0:
        return status
    gadget_choose(engine, order.tid, order.vaddr, &gadget)
    status = remote_begin(&remote, engine.text.mem_fd, order.tid, &gadget)
    if status == 0:
        status = remote_syscall(&remote, order.number, order.arguments, &order.result)
        ended = remote_end(&remote, engine.pid)
        status = min(status, ended)
    ended = task_release(engine, order.tid)
    return min(status, ended)


cdef int order_guard_area(void *argument) noexcept nogil:
    cdef order_t *order = <order_t *>argument
    return traps_add_area(&order.engine.text.traps, order.engine.text.mem_fd, order.vaddr, order.vaddr + order.count)


cdef int order_reclaim(void *argument) noexcept nogil:
    cdef order_t *order = <order_t *>argument
    return slots_reclaim(order.engine, order.deadline_ms)


cdef int order_stop(void *argument) noexcept nogil:
    cdef order_t *order = <order_t *>argument
    return world_stop(order.engine, order.deadline_ms)


cdef int order_go(void *argument) noexcept nogil:
    return world_resume((<order_t *>argument).engine)


cdef int order_leave(void *argument) noexcept nogil:
    return engine_leave((<order_t *>argument).engine)


cdef int order_run_to(void *argument) noexcept nogil:
    cdef order_t *order = <order_t *>argument
    return target_run_to(order.engine, order.vaddr)


cdef int order_set_off(void *argument) noexcept nogil:
    return target_go((<order_t *>argument).engine)


cdef int order_write(void *argument) noexcept nogil:
    cdef order_t *order = <order_t *>argument
    return memory_write(order.engine.text.mem_fd, order.vaddr, order.buffer, order.count)


cdef int engine_orphaned(void *argument) noexcept nogil:
    return engine_leave(<engine_t *>argument)


cdef class Tracer:
    """Traces process `pid` from the moment of start() until leave() or the target's end."""

    def __cinit__(self, pid_t pid):
        # The processor that the target runs on is the one that we run on.
        cdef uint32_t options = DECODE_64 | decode_host_vendor()
        memset(&self.engine, 0, sizeof(engine_t))
        self.engine.pid = pid
        self.engine.processor = -1
        self.engine.until_follow = 1
        self.engine.text.mem_fd = -1
        if tasks_make(&self.engine.tasks) < 0 or text_make(&self.engine.text, -1, options) < 0:
            raise MemoryError("tracer: no memory for its tables")

    def __dealloc__(self):
        taps_drop(&self.engine.taps)
        tasks_drop(&self.engine.tasks)
        text_drop(&self.engine.text)
        free(self.engine.stacks)
        free(self.engine.journal_path)
        if self.engine.text.mem_fd >= 0:
            os.close(self.engine.text.mem_fd)

    cdef order_t *blank(self) noexcept:
        memset(&self.order, 0, sizeof(order_t))
        self.order.engine = &self.engine
        return &self.order

    cdef int call(self, int (*function)(void *) noexcept nogil) except? -1:
        return self.call_with(function, &self.order)

    cdef int call_with(self, int (*function)(void *) noexcept nogil, void *argument) except? -1:
        cdef int status
        with nogil:
            status = twin_call(&self.engine.twin, function, argument)
            if status < 0:
                self.was_lost = twin_is_lost(&self.engine.twin)
        if status < 0:
            raise OSError(-status, f"pid {self.engine.pid}: {os.strerror(-status)}")
        return status

    def start(self, bint apart):
        """Make the tracer and seize all threads. apart: in a process of its own. OSError says why not."""
        cdef int status
        with nogil:
            status = twin_start(&self.engine.twin, apart, engine_orphaned, &self.engine)
        if status < 0:
            raise OSError(-status, f"cannot start the tracer: {os.strerror(-status)}")
        self.started = True
        self.blank()
        try:
            self.call(order_seize)
            self.open_memory()
        except OSError:
            self.leave(0)
            raise

    def open_memory(self):
        """Open the target's memory; once more after an exec."""
        fd = os.open(f"/proc/{self.engine.pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        if self.engine.text.mem_fd >= 0:
            os.close(self.engine.text.mem_fd)
        self.engine.text.mem_fd = fd

    def ring(self):
        """From any thread: make run() return BELL."""
        if self.started:
            bell_ring(&self.engine.twin.bell)

    def run(self):
        """Serve stops until something needs the caller: BELL, HIT, EXEC, AREA or ENDED."""
        self.blank()
        return self.call(order_run)

    def leave(self, uint64_t unmap_gadget):
        """Take everything back, let go of all threads, end the tracer.

        unmap_gadget: address of a `syscall` outside the arenas, to unmap those with that are not sealed (which are
        emptied); 0: none is unmapped.
        """
        if not self.started:
            return
        self.engine.unmap_gadget = unmap_gadget
        self.blank()
        try:
            self.call(order_leave)
        finally:
            self.started = False
            with nogil:
                twin_stop(&self.engine.twin)

    # ---- sites

    def keep_returns(self, bint shadow_stack):
        """Whether the processor checks the target's return addresses; sites are inserted accordingly."""
        self.engine.text.shadow_stack = shadow_stack

    def insert(self, const uint64_t[::1] vaddrs, uint32_t[::1] numbers, uint32_t[::1] waiting, int mode, int strategy, int near,
               const uint8_t[::1] image, uint64_t image_vaddr):
        """Insert a site at each address, not yet armed; the engine's numbers of the sites go to `numbers`.

        image: what the mapped file says is at image_vaddr (empty: believe memory). Returns three: a list of (index,
        refusal); how many had no slot, whose indices are in `waiting`; and what these need, as (anywhere, near, lowest,
        highest, below, below_vaddr).
        """
        cdef Py_ssize_t count = vaddrs.shape[0]
        cdef insertion_t *wishes = <insertion_t *>calloc(INSERT_BATCH, sizeof(insertion_t))
        cdef order_t *order = self.blank()
        cdef slot_needs_t needs
        cdef Py_ssize_t first, without = 0
        cdef list refused = []
        if wishes == NULL or sites_reserve(&self.engine.text.sites, count) < 0:
            free(wishes)
            raise MemoryError(f"no memory for {count} insertions")
        needs_clear(&needs)
        order.insertions = wishes
        order.mode = mode
        order.strategy = strategy
        order.near = near
        if image is not None and image.shape[0]:
            order.image.bytes = &image[0]
            order.image.size = image.shape[0]
            order.image.vaddr = image_vaddr
        try:
            for first in range(0, count, INSERT_BATCH):
                order.count = min(count - first, INSERT_BATCH)
                without = self.insert_batch(vaddrs, numbers, waiting, first, without, refused, &needs)
        finally:
            free(wishes)
        return refused, without, (needs.anywhere, needs.near, needs.lowest, needs.highest, needs.below, needs.below_vaddr)

    cdef Py_ssize_t insert_batch(self, const uint64_t[::1] vaddrs, uint32_t[::1] numbers, uint32_t[::1] waiting,
                                 Py_ssize_t first, Py_ssize_t without, list refused, slot_needs_t *needs) except -1:
        """`order.count` of them from index `first` on; how many have no slot now, where `without` had none before."""
        cdef insertion_t *wishes = self.order.insertions
        cdef Py_ssize_t i
        for i in range(<Py_ssize_t>self.order.count):
            wishes[i].vaddr = vaddrs[first + i]
        self.call(order_insert)
        for i in range(<Py_ssize_t>self.order.count):
            numbers[first + i] = wishes[i].site
            if wishes[i].status == STATUS_REFUSED:
                refused.append((first + i, wishes[i].refusal))
            elif wishes[i].status == STATUS_NO_ROOM:
                waiting[without] = <uint32_t>(first + i)
                without += 1
                needs_add(needs, &wishes[i])
            elif wishes[i].status != STATUS_OK:
                raise OSError(-wishes[i].status, f"cannot insert a site at {wishes[i].vaddr:#x}")
        return without

    def arm(self, const uint32_t[::1] sites):
        """An enabled probe has these sites: write the patches that are not there yet. How many were written. No thread
        is stopped."""
        return self.patch(sites, True)

    def disarm(self, const uint32_t[::1] sites):
        """The opposite: put the original bytes back where no enabled probe is left. How many were."""
        return self.patch(sites, False)

    cdef object patch(self, const uint32_t[::1] sites, bint arm):
        """Each site is patched by the first probe that is enabled, and put back by the last."""
        cdef order_t *order = self.blank()
        cdef site_t *site
        cdef Py_ssize_t i
        cdef uint32_t *wanted = <uint32_t *>malloc((sites.shape[0] + 1) * sizeof(uint32_t))
        if wanted == NULL:
            raise MemoryError(f"no memory for {sites.shape[0]} sites")
        try:
            for i in range(sites.shape[0]):
                site = site_at(&self.engine.text.sites, sites[i])
                if not arm:
                    site.armers -= 1
                if site.armers == 0:
                    wanted[order.count] = sites[i]
                    order.count += 1
                if arm:
                    site.armers += 1
            order.sites = wanted
            self.call(order_arm if arm else order_disarm)
        finally:
            free(wanted)
        return order.done

    def adopt(self, const uint32_t[::1] sites):
        """A probe has these sites, each once. OverflowError: one has 65,535 already."""
        cdef Py_ssize_t i
        for i in range(sites.shape[0]):
            if site_at(&self.engine.text.sites, sites[i]).users == 0xffff:
                raise OverflowError("a site cannot have more than 65,535 probes")
        for i in range(sites.shape[0]):
            site_at(&self.engine.text.sites, sites[i]).users += 1

    def release(self, const uint32_t[::1] sites):
        """A disabled probe is done with these sites; those that no probe has are forgotten. How many were.

        Their slots stay taken until reclaim(): a thread may still be in one.
        """
        cdef site_t *site
        cdef Py_ssize_t i
        cdef size_t dropped = 0
        for i in range(sites.shape[0]):
            site = site_at(&self.engine.text.sites, sites[i])
            site.users -= 1
            if site.users == 0:
                site.state &= ~<uint64_t>SITE_LIVE
                dropped += 1
        return dropped

    def reclaim(self):
        """Free the slots of forgotten sites that no thread is in; how many. All threads are stopped for a moment."""
        self.blank().deadline_ms = 1000
        return self.call(order_reclaim)

    def site(self, uint32_t number):
        """(vaddr, plan byte, state, hits, length, original, slot address or 0) of one site."""
        cdef site_t *site = site_at(&self.engine.text.sites, number)
        slot = 0 if site.slot == SLOT_NONE else slot_vaddr(&self.engine.text.arenas, site.slot)
        return (site.vaddr, site.plan, site.state, site.hits, site.length,
                PyBytes_FromStringAndSize(<char *>site.original, site.length), slot)

    def hits(self, uint32_t number):
        """The count of one site; any thread."""
        return site_at(&self.engine.text.sites, number).hits

    def hits_sum(self, const uint32_t[::1] sites):
        """The counts of many sites, summed; any thread."""
        cdef uint64_t total = 0
        cdef Py_ssize_t i
        for i in range(sites.shape[0]):
            total += site_at(&self.engine.text.sites, sites[i]).hits
        return total

    def watch(self, uint32_t number, bint callback):
        """Whether hits of a site end run() with HIT."""
        cdef site_t *site = site_at(&self.engine.text.sites, number)
        if callback:
            site.state |= SITE_CALLBACK
        else:
            site.state &= ~<uint64_t>SITE_CALLBACK

    @property
    def site_count(self):
        """How many sites there ever were."""
        return self.engine.text.sites.count

    @property
    def site_bytes(self):
        """Bytes of memory that the table of sites takes."""
        return sites_bytes(&self.engine.text.sites)

    # ---- arenas

    def add_arena(self, uint64_t vaddr, uint64_t size, bint sealed):
        """Take a mapping of the target in as slots. sealed: it cannot be unmapped any more."""
        cdef order_t *order = self.blank()
        if arena_add(&self.engine.text.arenas, vaddr, size, sealed) < 0:
            raise MemoryError(f"no memory for the slots of an arena of {size} bytes")
        order.vaddr = vaddr
        order.count = size
        self.call(order_guard_area)

    def reserve_slot(self, uint64_t vaddr):
        """Keep the slot at the start of the arena at `vaddr` from being given out."""
        arena_slot_take(&self.engine.text.arenas, vaddr, vaddr + self.arena_size(vaddr))

    cdef uint64_t arena_size(self, uint64_t vaddr):
        cdef uint32_t i
        for i in range(self.engine.text.arenas.count):
            if self.engine.text.arenas.arenas[i].vaddr == vaddr:
                return self.engine.text.arenas.arenas[i].size
        return 0

    def rewrite_arena(self, uint64_t vaddr, uint64_t size):
        """Write the slots of an arena again, after its mapping was lost and made anew."""
        cdef order_t *order = self.blank()
        order.vaddr = vaddr
        order.count = size
        self.call(order_rewrite)

    def arenas(self):
        """(address, bytes, free slots) of each arena."""
        return [
            (self.engine.text.arenas.arenas[i].vaddr, self.engine.text.arenas.arenas[i].size,
             self.engine.text.arenas.arenas[i].slots.free_count)
            for i in range(self.engine.text.arenas.count)
        ]

    def forget_arenas(self):
        """After an exec: there are none any more, and no handler of traps."""
        traps_drop(&self.engine.text.traps)
        memset(&self.engine.gadget, 0, sizeof(gadget_t))
        self.engine.text.arenas.count = 0
        self.engine.text.arenas.low_vaddr = ~<uint64_t>0
        self.engine.text.arenas.high_vaddr = 0

    # ---- tasks

    def tasks(self):
        """The tids that are traced."""
        return [
            self.engine.tasks.table[i].tid for i in range(self.engine.tasks.mask + 1)
            if self.engine.tasks.table[i].tid
        ]

    def system_call(self, pid_t tid, uint64_t gadget_vaddr, long number, arguments):
        """Let thread `tid` make a system call; its result (negative: -errno). TimeoutError: it does not stop now."""
        cdef order_t *order = self.blank()
        cdef int i
        order.tid = tid
        order.vaddr = gadget_vaddr
        order.number = number
        order.deadline_ms = 2000
        for i, value in enumerate(arguments):
            order.arguments[i] = <uint64_t>(value & 0xFFFFFFFFFFFFFFFF)
        self.call(order_call)
        return order.result

    def run_to(self, uint64_t vaddr):
        """From the stop of an exec (run() returned EXEC) to `vaddr`; the target is kept there until set_off()."""
        self.blank().vaddr = vaddr
        self.call(order_run_to)

    def set_off(self):
        """Let a target go on that stands at its exec, or was kept by run_to()."""
        self.blank()
        self.call(order_set_off)

    def stop_world(self, int deadline_ms):
        """Stop every thread between two instructions of its own."""
        self.blank().deadline_ms = deadline_ms
        self.call(order_stop)

    def resume_world(self):
        """Let all threads go on."""
        self.blank()
        self.call(order_go)

    # ---- the hit that run() returned for

    def hit(self):
        """(tid, site number) of the hit that waits."""
        return self.engine.hit_tid, self.engine.hit_site

    def hit_register(self, int index):
        """One register at the hit, by its place in REGISTERS."""
        return (<uint64_t *>&self.engine.hit_regs)[index]

    def set_hit_register(self, int index, uint64_t value):
        """Change one; it takes effect when the thread goes on."""
        (<uint64_t *>&self.engine.hit_regs)[index] = value

    def resume_hit(self, bint changed):
        """Send the thread on: through the instruction, or to where its changed rip says."""
        cdef order_t *order = self.blank()
        order.regs = &self.engine.hit_regs if changed else NULL
        try:
            self.call(order_resume)
        except ProcessLookupError:
            pass  # killed meanwhile: its end is reported by run()

    # ---- memory

    def read(self, uint64_t vaddr, size_t size):
        """`size` bytes at `vaddr`. OSError (EIO) where they are not all mapped."""
        cdef bytes data = PyBytes_FromStringAndSize(NULL, size)
        cdef char *buffer = data
        cdef int status = memory_read(self.engine.text.mem_fd, vaddr, buffer, size)
        if status < 0:
            raise OSError(-status, f"cannot read {size} bytes at {vaddr:#x} of pid {self.engine.pid}")
        return data

    def read_some(self, uint64_t vaddr, size_t size):
        """Up to `size` bytes at `vaddr`; fewer where a mapping ends."""
        cdef bytes data = PyBytes_FromStringAndSize(NULL, size)
        cdef char *buffer = data
        return data[:memory_read_some(self.engine.text.mem_fd, vaddr, buffer, size)]

    def write(self, uint64_t vaddr, bytes data):
        """Write `data` at `vaddr`, page protection notwithstanding."""
        cdef order_t *order = self.blank()
        cdef char *buffer = data
        order.vaddr = vaddr
        order.buffer = buffer
        order.count = len(data)
        self.call(order_write)

    @property
    def lost(self):
        """Whether somebody has killed the tracer. What it had put into the target is there still."""
        return bool(self.was_lost)

    @property
    def unclean(self):
        """After leave(): whether something of ours had to stay, since a thread was still in it."""
        return bool(self.engine.unclean)

    # ---- how it ended, and counters

    @property
    def exit(self):
        """(exit code, signal) after ENDED."""
        return self.engine.exit_code, self.engine.exit_signal

    @property
    def stops(self):
        """How many stops were served."""
        return self.engine.stops

    @property
    def replayed(self):
        """How many hits came twice because a signal came first; each was counted once."""
        return self.engine.replayed
