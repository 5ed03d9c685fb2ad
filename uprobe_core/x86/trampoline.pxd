"""Trampolines: the instructions of a window, displaced, with hit code in front of the probed ones, and a jump back.

Pure: no system call, no allocation, no Python, any thread.

A window is a run of whole instructions whose first five bytes become a jump to the trampoline. What is displaced does
the same as in place, from any address within ±2 GiB: the copies are those of the planner (x86/relocate), without its
jumps back in between. At the start of each copy and of each hit code all registers are those of the original at the same
instruction, so a thread that stands there can be moved from one to the other.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from uprobe_core.abi cimport hitcode_t, hitplace_t

cdef enum:
    WINDOW_BYTES = 64      # most that a window may have
    WINDOW_INSNS = 16      # most instructions
    JUMP_SIZE = 5          # of the patch
    TRAMPOLINE_BYTES = 8192  # most that a trampoline may have
    COLD_BYTES = 1024        # most that its tails may have
    ACTIONS_MAX = 4        # at one instruction

# What hit code may change without anybody noticing.
ctypedef struct freedom_t:
    uint32_t dead          # general registers, one bit each
    uint8_t flags_dead
    uint8_t red_zone       # the 128 bytes below rsp may be in use

# A probed instruction of the window.
ctypedef struct arrival_t:
    uint8_t offset         # of the instruction in the window
    uint8_t count          # of what is done there
    const hitcode_t *what[ACTIONS_MAX]
    freedom_t freedom

# Where one instruction of the window went. Offsets from the trampoline's start.
ctypedef struct displaced_t:
    uint8_t offset         # in the window
    uint8_t length
    uint16_t hit           # where a thread goes that is about to run it: its hit code, or the copy
    uint16_t copy          # its copy; the hit code lies in front

ctypedef struct trampoline_t:
    uint64_t vaddr
    uint64_t window_vaddr
    uint8_t count          # instructions
    uint8_t refusal        # enum refusal
    uint16_t end           # behind the last copy: the jump back, if there is one
    uint16_t size          # all
    uint16_t cold_size     # of what hardly ever runs: the tails of the hit code
    uint64_t cold_vaddr
    uint64_t purpose       # what it is for, as whoever made it says
    displaced_t insns[WINDOW_INSNS]

# Writes the trampoline of window code[0:size], which lies at `vaddr`, to `bytes`, to run at `ip`, a multiple of 8, as is
# `room`; and the tails of its hit code to `cold`, COLD_BYTES of room, to lie at `cold_ip`, a multiple of 32. The arrivals are sorted by offset. common:
# all of a hitplace_t but the freedom, which is each arrival's own. STATUS_OK; STATUS_REFUSED (out.refusal: an instruction cannot be displaced);
# STATUS_NO_ROOM: `room` is too small, or `ip` out of reach of what the instructions name.
cdef int trampoline_make(const uint8_t *code, size_t size, uint64_t vaddr, uint32_t options, const arrival_t *arrivals,
                         size_t count, const hitplace_t *common, uint64_t ip, uint8_t *bytes, size_t room,
                         uint64_t cold_ip, uint8_t *cold, trampoline_t *out) noexcept nogil

# Where in the trampoline the thread goes that stands at `offset` of the window, or 0: no instruction begins there.
cdef uint64_t trampoline_ip(const trampoline_t *trampoline, uint64_t offset) noexcept nogil

# The instruction of which `ip` is the hit code or the copy: its index, or -1 where it is neither.
cdef int trampoline_insn(const trampoline_t *trampoline, uint64_t ip) noexcept nogil
