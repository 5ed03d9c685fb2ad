"""The part of a Tracer that keeps its target alive should the tracer be killed: see guard.pxd.

As with the Tracer, numbers cross and not objects, and only the owner thread may call.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset, strdup

from uprobe_core.abi cimport INSN_MAX
from uprobe_core.linux.journal cimport Journal
from uprobe_core.patch.arenas cimport arena_add, slot_at
from uprobe_core.patch.sites cimport SITE_ARMED, SITE_LIVE, SITE_STEP, site_add, site_at, site_t
from uprobe_core.patch.traps cimport (
    TRAP_AREA_SIZE, TRAP_FRAME_OFF, TRAP_OURS_OFF, trap_entry_t, traps_add_area, traps_adopt, traps_fit, traps_make, traps_move,
    traps_rewrite, traps_size_for,
)
from uprobe_core.trace.engine cimport engine_t
from uprobe_core.trace.tracer cimport Tracer

cdef enum:
    ACTION_BYTES = 32   # the kernel's struct sigaction

AREA_SIZE = TRAP_AREA_SIZE

ctypedef struct guard_order_t:
    engine_t *engine
    uint64_t vaddr
    uint32_t size
    const uint8_t *before


cdef int order_make(void *argument) noexcept nogil:
    cdef guard_order_t *order = <guard_order_t *>argument
    cdef engine_t *engine = order.engine
    cdef int status = traps_make(&engine.text.traps, engine.text.mem_fd, order.vaddr, order.before)
    if status == 0:
        engine.gadget.vaddr = order.vaddr
        engine.gadget.frame_vaddr = order.vaddr + TRAP_FRAME_OFF
        engine.gadget.restorer_vaddr = 0
    return status


cdef int order_rewrite(void *argument) noexcept nogil:
    cdef engine_t *engine = (<guard_order_t *>argument).engine
    cdef uint32_t i
    cdef int status = traps_rewrite(&engine.text.traps, engine.text.mem_fd)
    for i in range(engine.text.arenas.count):
        if status == 0:
            status = traps_add_area(&engine.text.traps, engine.text.mem_fd, engine.text.arenas.arenas[i].vaddr,
                                    engine.text.arenas.arenas[i].vaddr + engine.text.arenas.arenas[i].size)
    return status


cdef int order_move(void *argument) noexcept nogil:
    cdef guard_order_t *order = <guard_order_t *>argument
    return traps_move(&order.engine.text.traps, order.engine.text.mem_fd, order.vaddr, order.size)


cdef int order_run(Tracer tracer, int (*function)(void *) noexcept nogil, guard_order_t *order) except -1:
    order.engine = &tracer.engine
    cdef int status = tracer.call_with(function, order)
    return status


def keep_journal(Tracer tracer, Journal journal, bytes path):
    """From now on every insertion is written down in `journal` first. Its file is removed when all is taken back, even
    if there is nobody but the tracer to do so."""
    if tracer.engine.text.journal != NULL or tracer.engine.text.sites.count:
        raise ValueError("tracer: it has sites already, or a journal")
    tracer.engine.journal_path = strdup(path)
    if tracer.engine.journal_path == NULL:
        raise MemoryError("tracer: no memory for a path")
    tracer.journal = journal
    tracer.engine.text.journal = &journal.journal


def set_stacks(Tracer tracer, uint64_t restorer_vaddr, const uint64_t[::1] stacks):
    """For calls before there is a gadget of ours. restorer_vaddr: of code in a mapped file that makes rt_sigreturn (0:
    there is none); stacks: start and end of each mapping that is a thread's stack."""
    cdef Py_ssize_t i
    cdef uint64_t *copy = <uint64_t *>calloc(stacks.shape[0] + 1, sizeof(uint64_t))
    if copy == NULL:
        raise MemoryError("tracer: no memory for the list of stacks")
    for i in range(stacks.shape[0]):
        copy[i] = stacks[i]
    free(tracer.engine.stacks)
    tracer.engine.stacks = copy
    tracer.engine.stack_count = stacks.shape[0] // 2
    tracer.engine.restorer_vaddr = restorer_vaddr


def make(Tracer tracer, uint64_t page_vaddr, const uint8_t[::1] before):
    """Write the handler's page into the mapping of AREA_SIZE bytes at `page_vaddr`; system calls go by its gadget from now
    on. before: the disposition of SIGTRAP, 32 bytes. Returns the address of the disposition to set (32 bytes there)."""
    cdef guard_order_t order
    if before.shape[0] != ACTION_BYTES:
        raise ValueError(f"tracer: a disposition of {before.shape[0]} bytes")
    memset(&order, 0, sizeof(order))
    order.vaddr = page_vaddr
    order.before = &before[0]
    order_run(tracer, order_make, &order)
    return page_vaddr + TRAP_OURS_OFF


def set_installed(Tracer tracer, bint sealed):
    """The disposition was set. sealed: the area cannot be unmapped."""
    tracer.engine.text.traps.installed = True
    tracer.engine.text.traps.sealed = sealed


def fill_arena(Tracer tracer, uint64_t vaddr):
    """No slot of the arena at `vaddr` is given out: it is used for something else."""
    cdef uint32_t i
    for i in range(tracer.engine.text.arenas.count):
        if tracer.engine.text.arenas.arenas[i].vaddr == vaddr:
            tracer.engine.text.arenas.arenas[i].slots.free_count = 0


def rewrite(Tracer tracer):
    """Write all that the handler needs again, after its mapping was lost and made anew."""
    cdef guard_order_t order
    memset(&order, 0, sizeof(order))
    order_run(tracer, order_rewrite, &order)


def present(Tracer tracer):
    """Whether the target has the handler."""
    return bool(tracer.engine.text.traps.installed)


def missing(Tracer tracer, uint32_t count):
    """Bytes of the mapping that the table needs for `count` more sites; 0: it has room."""
    if tracer.engine.text.traps.page_vaddr == 0 or traps_fit(&tracer.engine.text.traps, count):
        return 0
    return traps_size_for(&tracer.engine.text.traps, count) * sizeof(trap_entry_t)


def move(Tracer tracer, uint64_t table_vaddr, uint64_t size):
    """The table is the mapping of `size` bytes at `table_vaddr` from now on."""
    cdef guard_order_t order
    memset(&order, 0, sizeof(order))
    order.vaddr = table_vaddr
    order.size = <uint32_t>(size // sizeof(trap_entry_t))
    order_run(tracer, order_move, &order)


# ---- after a tracer's death

def adopt_guard(Tracer tracer, uint64_t page_vaddr, const uint8_t[::1] before, bint sealed):
    """The dead tracer's handler is in the area at `page_vaddr`; `before` is the disposition that was there before it. Nothing
    is written yet."""
    cdef engine_t *engine = &tracer.engine
    cdef int status = traps_adopt(&engine.text.traps, page_vaddr, &before[0])
    if status < 0:
        raise MemoryError("tracer: no memory for a table")
    engine.text.traps.installed = True
    engine.text.traps.sealed = sealed
    engine.gadget.vaddr = page_vaddr
    engine.gadget.frame_vaddr = page_vaddr + TRAP_FRAME_OFF
    engine.adopted = True


def adopt_arena(Tracer tracer, uint64_t vaddr, uint64_t size, bint sealed):
    """An area of the dead tracer's, from which no slot is given out."""
    if arena_add(&tracer.engine.text.arenas, vaddr, size, sealed) < 0:
        raise MemoryError(f"no memory for the slots of an arena of {size} bytes")
    fill_arena(tracer, vaddr)
    tracer.engine.adopted = True


def adopt_site(Tracer tracer, uint64_t vaddr, const uint8_t[::1] original, uint64_t slot_ip, int plan, int operand,
               bint stepped, bint armed):
    """A site of the dead tracer's: leave() takes it back like any other. original: the whole instruction."""
    cdef site_t *site
    cdef uint32_t number
    if not 1 <= original.shape[0] <= INSN_MAX:
        raise ValueError(f"tracer: an instruction of {original.shape[0]} bytes")
    if site_add(&tracer.engine.text.sites, vaddr, &number) < 0:
        raise MemoryError("tracer: no memory for a site")
    site = site_at(&tracer.engine.text.sites, number)
    site.plan = <uint64_t>plan
    site.state = SITE_LIVE | (SITE_STEP if stepped else 0) | (SITE_ARMED if armed else 0)
    memcpy(site.original, &original[0], original.shape[0])
    site.length = <uint8_t>original.shape[0]
    site.operand = <uint8_t>operand
    site.slot = slot_at(&tracer.engine.text.arenas, slot_ip)
    tracer.engine.adopted = True
