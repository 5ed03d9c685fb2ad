"""A hit played on registers that Python holds: what the tracer would do with a planned instruction."""

from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from uprobe_core.abi cimport plan_t, regs_t
from uprobe_core.x86.decode cimport DECODE_64
from uprobe_core.x86.emulate cimport emulate, emulate_ip, plan_sets_ip
from uprobe_core.x86.fixup cimport (
    FIXUP_AGAIN,
    FIXUP_DONE,
    FIXUP_FAILED,
    FIXUP_FAULTS,
    FIXUP_IP,
    FIXUP_READ,
    access_t,
    fixup_abort,
    fixup_begin,
    fixup_finish,
    place_t,
    saved_t,
)
from uprobe_core.x86.relocate cimport Plan
from uprobe_core.x86.resolve cimport (
    RESOLVE_BACK,
    RESOLVE_DONE,
    RESOLVE_FAILED,
    RESOLVE_RESTART,
    slot_resolve,
)

from uprobe_core.x86.relocate import VENDORS as _VENDORS

_OUTCOMES = {
    FIXUP_DONE: "done",
    FIXUP_AGAIN: "again",
    FIXUP_READ: "read",
    FIXUP_FAILED: "failed",
    FIXUP_IP: "ip",
    FIXUP_FAULTS: "faults",
}
_RESOLVE_OUTCOMES = {
    RESOLVE_BACK: "back",
    RESOLVE_DONE: "done",
    RESOLVE_RESTART: "restart",
    RESOLVE_FAILED: "failed",
}

cdef class Rehearsal:
    """One hit of the site that `plan` is for. Registers are the bytes of the kernel's struct user_regs_struct."""

    cdef Plan plan
    cdef place_t place
    cdef saved_t saved
    cdef access_t access
    cdef regs_t regs

    def __init__(self, Plan plan not None):
        if plan.plan.refusal:
            raise ValueError(f"0x{plan.ip:x}: the plan is refused; nothing to rehearse")
        self.plan = plan
        self.place.ip = plan.site_ip
        self.place.slot_ip = plan.slot_vaddr
        self.place.original = plan.plan.original
        self.place.kind = plan.plan.kind
        self.place.length = plan.plan.length
        self.place.operand = plan.plan.operand

    cdef int load(self, bytes regs) except -1:
        if len(regs) != sizeof(regs_t):
            raise ValueError(f"registers are {sizeof(regs_t)} bytes, not {len(regs)}")
        memcpy(&self.regs, <const uint8_t *>regs, sizeof(regs_t))
        return 0

    cdef bytes store(self):
        return (<uint8_t *>&self.regs)[:sizeof(regs_t)]

    def begin(self, bytes regs) -> bytes:
        """Registers with which the copy is to be stepped."""
        self.load(regs)
        fixup_begin(&self.place, &self.regs, &self.saved)
        return self.store()

    def finish(self, bytes regs) -> tuple[str, bytes]:
        """After the step: "done", "again" or "failed", and the registers. `write` may name a write to make."""
        self.load(regs)
        outcome = fixup_finish(&self.place, &self.saved, &self.regs, &self.access)
        return _OUTCOMES[outcome], self.store()

    def abort(self, bytes regs) -> bytes:
        """Registers at the site, when the copy did not run or faulted."""
        self.load(regs)
        fixup_abort(&self.place, &self.saved, &self.regs)
        return self.store()

    def sets_ip(self) -> bool:
        """Whether a hit needs nothing but a new ip."""
        return plan_sets_ip(self.place.kind)

    def emulate_ip(self) -> int:
        """That ip."""
        return emulate_ip(&self.place)

    def emulate(self, bytes regs, read: bytes | None = None) -> tuple[str, bytes]:
        """Without a step: "done", "ip", "read" or "faults", and the registers. After "read" call again with what `read` names."""
        self.load(regs)
        self.access.value = 0
        if read is None:
            self.access.size = 0
        else:
            memcpy(&self.access.value, <const uint8_t *>read, self.access.size)
        outcome = emulate(&self.place, &self.regs, &self.access)
        return _OUTCOMES[outcome], self.store()

    def resolve(self, bytes regs, vendor: str | None = None) -> tuple[str, bytes]:
        """Out of the slot: "back", "done", "restart" or "failed", and the registers. `write` may name a write to make."""
        self.load(regs)
        outcome = slot_resolve(&self.place, _VENDORS[vendor] | DECODE_64, &self.regs, &self.access)
        return _RESOLVE_OUTCOMES[outcome], self.store()

    @property
    def read(self) -> tuple[int, int] | None:
        """Address and size of the memory to read."""
        return (self.access.vaddr, self.access.size) if self.access.size and not self.access.write else None

    @property
    def write(self) -> tuple[int, bytes] | None:
        """Address and bytes of the memory to write."""
        if not self.access.size or not self.access.write:
            return None
        return self.access.vaddr, (<uint8_t *>&self.access.value)[:self.access.size]
