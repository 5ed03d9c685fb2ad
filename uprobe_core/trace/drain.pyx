"""Draining: see drain.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from posix.types cimport pid_t

from uprobe_core.abi cimport regs_t
from uprobe_core.linux.memory cimport memory_read_some
from uprobe_core.linux.ptrace cimport regs_get
from uprobe_core.patch.arenas cimport slot_at
from uprobe_core.patch.sites cimport SLOT_NONE
from uprobe_core.patch.traps cimport TRAP_AREA_SIZE

cdef enum:
    PIECE_WORDS = 512
    STACK_BYTES = 1 << 19  # looked at, from the stack pointer upwards


cdef bint vaddr_is_ours(const engine_t *engine, uint64_t vaddr) noexcept nogil:
    cdef uint64_t page_vaddr = engine.text.traps.page_vaddr
    return slot_at(&engine.text.arenas, vaddr) != SLOT_NONE or (
        page_vaddr != 0 and page_vaddr <= vaddr < page_vaddr + TRAP_AREA_SIZE)


cdef bint stack_leads_back(const engine_t *engine, uint64_t rsp) noexcept nogil:
    cdef uint64_t words[PIECE_WORDS]
    cdef uint64_t at = (rsp + 7) & ~<uint64_t>7
    cdef uint64_t end = at + STACK_BYTES
    cdef ssize_t size
    cdef uint32_t i
    while at < end:
        size = memory_read_some(engine.text.mem_fd, at, words, sizeof(words))
        for i in range(<uint32_t>(size // 8)):
            if vaddr_is_ours(engine, words[i]):
                return True
        if size < <ssize_t>sizeof(words):
            return False
        at += sizeof(words)
    return False


cdef bint areas_in_use(engine_t *engine) noexcept nogil:
    cdef regs_t regs
    cdef uint32_t i
    cdef pid_t tid
    for i in range(engine.tasks.mask + 1):
        tid = engine.tasks.table[i].tid
        if tid and regs_get(tid, &regs) == 0 and (vaddr_is_ours(engine, regs.rip) or stack_leads_back(engine, regs.rsp)):
            return True
    return False
