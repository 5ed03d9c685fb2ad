"""A signal frame that brings a task back to where it was: general registers, signal mask, and floating-point state.

A task that runs rt_sigreturn with rsp behind the first word of the frame goes on as if nothing had been. So what borrows a
task's registers needs nobody to give them back.
"""

from libc.stdint cimport uint8_t, uint64_t
from posix.types cimport pid_t

from uprobe_core.abi cimport regs_t

cdef enum:
    SIGFRAME_MAX = 16384      # bytes; the floating-point state may take 11 KiB with AMX
    SIGFRAME_RETURN_OFF = 8   # rsp at rt_sigreturn, from the frame's start

# Makes the frame of a stopped task, to lie at `frame_vaddr`, a multiple of 64. regs: what its registers shall be; a system
# call that a stop interrupted is made again. restorer_vaddr: the frame's first word, where a `ret` with rsp at the frame
# goes. The number of bytes in `out`, or -errno.
cdef long sigframe_make(pid_t tid, const regs_t *regs, uint64_t mask, uint64_t frame_vaddr, uint64_t restorer_vaddr,
                        uint8_t *out) noexcept nogil
