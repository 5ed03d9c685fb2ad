"""Patching windows: from wishes to trampolines that are written, and from those to jumps in the text.

Three steps, so that the target stands still only for the last:

    jumps_insert   sites are linked into windows; nothing is written
    jumps_prepare  the trampolines of windows whose enabled sites changed are written, where nothing leads to them yet;
                   there is space in the journal
    window_patch   all tasks stopped: the jump goes in, is pointed elsewhere, or gives way to the original bytes

Every write to text is checked first: what is there must be what is expected, or nothing is written.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from uprobe_core.abi cimport hitcode_t
from uprobe_core.linux.journal cimport journal_t
from uprobe_core.patch.jump_areas cimport jump_areas_t
from uprobe_core.patch.sites cimport sites_t
from uprobe_core.patch.windows cimport windows_t
from uprobe_core.x86.trampoline cimport freedom_t

ctypedef struct jumps_t:
    int mem_fd
    journal_t *journal      # NULL: nothing is written down
    uint32_t decode_options
    sites_t *sites
    windows_t windows
    jump_areas_t areas
    hitcode_t *scratch      # room for what is done at one window

# One wish: the site at `vaddr` in the window of `length` bytes at `window_vaddr`. The rest is filled in.
ctypedef struct jump_wish_t:
    uint64_t vaddr
    uint64_t window_vaddr
    uint64_t low, high      # what a trampoline of the window has to reach
    freedom_t freedom
    uint8_t length
    uint8_t refusal         # of STATUS_REFUSED
    int status              # STATUS_OK, STATUS_REFUSED, or -errno
    uint32_t site

cdef void jumps_drop(jumps_t *jumps) noexcept nogil

# Inserts sites. code: what the mapped file has at [code_vaddr, code_vaddr + code_size). A site that is live already is
# shared as it is. 0 or -errno; the outcome of each is in its wish.
cdef int jumps_insert(jumps_t *jumps, jump_wish_t *wishes, size_t count, const uint8_t *code, uint64_t code_vaddr,
                      uint64_t code_size) noexcept nogil

# Writes the trampolines of windows of which others do what is wanted. Marks windows WINDOW_REFUSED for which there is none. 0; STATUS_NO_ROOM: an area
# is missing for window `*missing`, ask again when there is one; or -errno.
cdef int jumps_prepare(jumps_t *jumps, const uint32_t *windows, size_t count, uint32_t *missing) noexcept nogil

# Whether the text of the window has to change: to another trampoline, to its first, or back to the original.
cdef bint window_is_due(const jumps_t *jumps, uint32_t window) noexcept nogil

# All tasks stand still, none at an address inside the window: writes its patch. 0, STATUS_CHANGED, or -errno.
cdef int window_patch(jumps_t *jumps, uint32_t window) noexcept nogil

# Whether `vaddr` lies in a window that is in use, and not about to give way to traps.
cdef bint window_is_taken(const jumps_t *jumps, uint64_t vaddr) noexcept nogil

# A pending trampoline that nothing will lead to is given up.
cdef void window_cancel(jumps_t *jumps, uint32_t window) noexcept nogil

# Takes in a window whose jump an earlier tracer has written, to a trampoline of which no more is known than its place: it
# gives way to one of ours at the next jumps_prepare. original: what the file has there; the text must have the jump. The
# window's number goes to `number`. 0, STATUS_CHANGED, or -errno.
cdef int window_adopt(jumps_t *jumps, uint64_t vaddr, const uint8_t *original, uint8_t length, uint64_t trampoline_vaddr,
                      uint32_t trampoline_size, uint64_t cold_vaddr, uint32_t cold_size, uint32_t *number) noexcept nogil

# The bytes of [vaddr, vaddr + size) that were read from the target, as they are without our jumps.
cdef void jumps_hide(const jumps_t *jumps, uint64_t vaddr, uint8_t *bytes, size_t size) noexcept nogil

# A copy of the target's memory, behind `mem_fd`, gets its own bytes back.
cdef void jumps_clean(const jumps_t *jumps, int mem_fd) noexcept nogil

# Frees a trampoline that nothing leads to and nobody is in; its bytes become int3.
cdef int trampoline_free(jumps_t *jumps, uint32_t trampoline) noexcept nogil

# Whether nothing leads to the trampoline: its window has another one, or none.
cdef bint trampoline_is_idle(const jumps_t *jumps, uint32_t trampoline) noexcept nogil
