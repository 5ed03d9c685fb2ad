"""Inner loops of the core's functions without Python in them: for measuring only, compiled when it is measured."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from uprobe_core.abi cimport effects_t, insn_t, regs_t
from uprobe_core.patch.slots cimport slot_put, slot_take, slots_drop, slots_make, slots_t
from uprobe_core.x86.decode cimport DECODE_64, insn_decode
from uprobe_core.x86.effects cimport insn_effects
from uprobe_core.x86.emulate cimport emulate, emulate_ip, plan_sets_ip
from uprobe_core.x86.fixup cimport access_t, fixup_begin, fixup_finish, place_t, saved_t
from uprobe_core.x86.relocate cimport Plan


cdef extern from "decode_options.h" nogil:
    uint32_t decode_host_vendor()


def decode_buffer(const uint8_t[::1] code):
    """Decode a buffer from its start to its end, one byte further where there is no instruction; how many."""
    cdef size_t at = 0, end = code.shape[0]
    cdef insn_t insn
    cdef uint64_t count = 0
    cdef uint32_t options = DECODE_64 | decode_host_vendor()
    with nogil:
        while at < end:
            if insn_decode(&code[at], end - at, at, options, &insn) == 0:
                at += insn.length
            else:
                at += 1
            count += 1
    return count


def decode_buffer_masks(const uint8_t[::1] code):
    """decode_buffer, and what every instruction reads and writes."""
    cdef size_t at = 0, end = code.shape[0]
    cdef insn_t insn
    cdef effects_t effects
    cdef uint64_t count = 0
    cdef uint32_t options = DECODE_64 | decode_host_vendor()
    with nogil:
        while at < end:
            if insn_decode(&code[at], end - at, at, options, &insn) == 0:
                insn_effects(&insn, &effects)
                at += insn.length
            else:
                at += 1
            count += 1
    return count


cdef class Slots:
    """A bitmap of slots, `taken` of which are in use."""

    cdef slots_t slots

    def __cinit__(self, uint32_t count, uint32_t taken):
        cdef uint32_t i
        if slots_make(&self.slots, count) < 0:
            raise MemoryError(f"no memory for {count} slots")
        for i in range(taken):
            slot_take(&self.slots)

    def __dealloc__(self):
        slots_drop(&self.slots)

    def take_and_put(self, uint32_t rounds):
        """Take a slot and put it back, `rounds` times."""
        cdef uint32_t i
        with nogil:
            for i in range(rounds):
                slot_put(&self.slots, slot_take(&self.slots))


cdef class Hit:
    """A hit of a planned instruction, on registers made up here."""

    cdef Plan plan
    cdef place_t place

    def __init__(self, Plan plan not None):
        self.plan = plan
        self.place.ip = plan.site_ip
        self.place.slot_ip = plan.slot_vaddr
        self.place.original = plan.plan.original
        self.place.kind = plan.plan.kind
        self.place.length = plan.plan.length
        self.place.operand = plan.plan.operand

    def step(self, uint32_t rounds):
        """Registers before and after a single step, `rounds` times; the last ip."""
        cdef regs_t regs
        cdef saved_t saved
        cdef access_t access
        cdef uint32_t i
        memset(&regs, 0, sizeof(regs))
        memset(&access, 0, sizeof(access))
        with nogil:
            for i in range(rounds):
                regs.rip = self.place.ip
                fixup_begin(&self.place, &regs, &saved)
                regs.rip += self.plan.plan.copy_length  # what the processor does
                fixup_finish(&self.place, &saved, &regs, &access)
        return regs.rip

    def emulate(self, uint32_t rounds):
        """The way without a step, `rounds` times; the last ip."""
        cdef regs_t regs, before
        cdef access_t access
        cdef uint32_t i
        cdef uint64_t ip = 0
        memset(&before, 0, sizeof(before))
        before.rip = self.place.ip
        with nogil:
            for i in range(rounds):
                if plan_sets_ip(self.place.kind):
                    ip += emulate_ip(&self.place)
                else:
                    memcpy(&regs, &before, sizeof(regs))
                    access.size = 0
                    emulate(&self.place, &regs, &access)
                    ip += regs.rip
        return ip
