"""Around a single step in a slot: registers before, registers after, by the plan byte alone.

Pure: no system call, no allocation, no Python. Memory of the target is named, never touched: the caller does it.
"""

from libc.stdint cimport uint8_t, uint64_t

from uprobe_core.abi cimport regs_t

# One access to the target's memory that the caller has to make. size 0: none.
ctypedef struct access_t:
    uint64_t vaddr
    uint64_t value
    uint8_t size      # bytes, 0 to 8
    uint8_t write     # 1: write `value`; 0: read into `value`

# The facts of a site that a hit needs; kept in the site.
ctypedef struct place_t:
    uint64_t ip       # of the site
    uint64_t slot_ip  # 0: the site has no slot
    const uint8_t *original # the instruction's bytes
    uint8_t kind      # the plan byte
    uint8_t length    # of the original
    uint8_t operand   # plan_t.operand

# What has to be put back after the step.
ctypedef struct saved_t:
    uint64_t scratch
    uint64_t gs_base
    uint64_t eflags

cdef enum fixup_outcome:
    FIXUP_DONE    # regs are as after the original instruction; make `access` if it is a write
    FIXUP_AGAIN   # the instruction is not finished: step again, regs untouched
    FIXUP_READ    # do `access` (a read), then call again
    FIXUP_FAILED  # ip is neither the slot nor anywhere the instruction can lead: the target scrambled it
    FIXUP_IP      # as FIXUP_DONE, and only regs.rip changed: it alone need be written
    FIXUP_FAULTS  # the instruction will fault: the processor has to run it, regs untouched

# Sets regs up for the step: ip to the slot, scratch or gs base loaded; what they held goes to `saved`.
cdef void fixup_begin(const place_t *place, regs_t *regs, saved_t *saved) noexcept nogil

# After the step's trap. FIXUP_DONE (then `access` is a write to make, or none), FIXUP_AGAIN or FIXUP_FAILED.
cdef int fixup_finish(const place_t *place, const saved_t *saved, regs_t *regs, access_t *access) noexcept nogil

# The copy did not run, or faulted: regs become those at the site, as if it had not been tried. A system call that
# waits for the kernel to restart it ends up behind the site, from where the restart goes back to the site.
cdef void fixup_abort(const place_t *place, const saved_t *saved, regs_t *regs) noexcept nogil

# Whether a system call that ended at `regs` is about to be restarted by the kernel, now that a signal is delivered.
cdef bint syscall_restarts(const regs_t *regs) noexcept nogil

# A syscall or int 0x80 has ended in the slot: ip, and what syscall leaves in rcx and r11, become the original's.
# eflags: of the thread, with its own TF.
cdef void syscall_leave(const place_t *place, uint64_t eflags, regs_t *regs) noexcept nogil
