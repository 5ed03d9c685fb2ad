"""The windows of one target: which bytes are, or may be, replaced by a jump, which sites lie in each, and where their
counters are.

Nothing here touches the target; see patch/jumps. Windows never overlap. Everything belongs to the tracer thread; only
counters are read elsewhere.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from uprobe_core.patch.sites cimport sites_t
from uprobe_core.abi cimport hitcode_t, hitplace_t
from uprobe_core.x86.trampoline cimport WINDOW_BYTES, freedom_t, trampoline_t

cdef extern from * nogil:
    """
    #define WINDOW_NONE 0xffffffffu
    #define TRAMPOLINE_NONE 0xffffffffu
    #define CELL_NONE 0xffffffffu
    """
    const uint32_t WINDOW_NONE
    const uint32_t TRAMPOLINE_NONE
    const uint32_t CELL_NONE

cdef enum:
    JUMP_TAPS = 3             # of a site at once
    LITERALS = 512            # of a gate page

cdef enum window_state:
    WINDOW_ARMED = 0x01    # the jump is in the text
    WINDOW_BUSY = 0x02     # a thread stands in its bytes, or will return there: not now
    WINDOW_CHANGED = 0x04  # the text was not as expected, and is left alone
    WINDOW_LEAVING = 0x08  # its sites are to be served by traps
    WINDOW_FRESH = 0x10    # chosen for the change under way
    WINDOW_REFUSED = 0x20  # what is wanted there cannot be done without a stop

ctypedef struct window_t:
    uint64_t vaddr
    uint64_t low, high        # what its trampoline has to reach
    uint32_t first            # of its sites, by rising offset; the others follow by jump_site_t.next
    uint32_t trampoline       # that its jump leads to, or TRAMPOLINE_NONE
    uint32_t pending          # one that is made and written, not yet led to
    uint32_t record           # of the patch in the journal, or RECORD_UNNUMBERED
    uint8_t length
    uint8_t state             # enum window_state
    uint8_t original[WINDOW_BYTES]

# What is done at a site beside counting: by a plan that its owner keeps alive, on the board of a literal.
ctypedef struct jump_tap_t:
    const hitcode_t *code
    uint16_t literal

# What a site needs beside site_t when a window serves it.
ctypedef struct jump_site_t:
    uint32_t window           # WINDOW_NONE: none
    uint32_t next             # site, or SITE_NONE
    uint32_t cell             # its counter in each stride, or CELL_NONE
    uint8_t offset            # in the window
    freedom_t freedom
    uint8_t tap_count
    jump_tap_t taps[JUMP_TAPS]

# Memory that the target shares with us: what a literal leads to.
ctypedef struct shared_t:
    uint64_t vaddr            # in the target; 0: none
    uint64_t size

# The memory that counters are in, of literal 0.
ctypedef struct board_t:
    const uint8_t *bytes      # ours
    uint32_t processors
    uint32_t cells            # in each stride
    uint32_t used
    uint8_t shift             # a processor's stride is 1 << shift bytes
    hitplace_t common         # of all hit code; the gate's address depends on the area

ctypedef struct window_index_t:
    uint64_t vaddr
    uint32_t window

ctypedef struct windows_t:
    window_t *windows
    window_index_t *order     # by rising address
    uint32_t count            # of `order`: those that are not removed
    uint32_t made, room       # of `windows`
    jump_site_t **chunks      # by site number; never moved, as counters are read by other threads
    trampoline_t *trampolines
    uint32_t *trampoline_window  # WINDOW_NONE: nothing leads there any more
    uint32_t trampoline_count, trampoline_room, trampoline_free
    board_t board
    shared_t shared[LITERALS]

cdef void windows_drop(windows_t *windows) noexcept nogil

# A new window without sites. Its number goes to `number`; 0 or -ENOMEM.
cdef int window_add(windows_t *windows, uint64_t vaddr, const uint8_t *original, uint8_t length, uint32_t *number) noexcept nogil

# Forgets a window that is not armed. Its number is not used again.
cdef void window_remove(windows_t *windows, uint32_t number) noexcept nogil

# The window that has `vaddr` among its bytes, or WINDOW_NONE.
cdef uint32_t window_at(const windows_t *windows, uint64_t vaddr) noexcept nogil

# The first window that ends behind `vaddr`: its place in `order`.
cdef uint32_t window_after(const windows_t *windows, uint64_t vaddr) noexcept nogil

# What is known of site `number`; NULL: no window has ever had it.
cdef jump_site_t *jump_site_find(const windows_t *windows, uint32_t number) noexcept nogil

# Links site `number` into a window, with a counter. 0, -ENOMEM, or STATUS_NO_ROOM: the board is full.
cdef int jump_site_link(windows_t *windows, uint32_t number, uint32_t window, uint8_t offset,
                        const freedom_t *freedom) noexcept nogil

# Takes all sites out of a window.
cdef void window_unlink(windows_t *windows, uint32_t window) noexcept nogil

# A new entry for a trampoline of `window`: its number goes to `number`. 0 or -ENOMEM.
cdef int trampoline_add(windows_t *windows, uint32_t window, uint32_t *number) noexcept nogil
cdef void trampoline_remove(windows_t *windows, uint32_t number) noexcept nogil

# Ties a site to a plan, or unties it. STATUS_NO_ROOM: it has as many as it can have, or no window has ever had it.
cdef int jump_tap_tie(windows_t *windows, uint32_t number, const hitcode_t *code, uint16_t literal) noexcept nogil
cdef void jump_tap_untie(windows_t *windows, uint32_t number, const hitcode_t *code) noexcept nogil

# The count of a site on the board, all processors together. Any thread.
cdef uint64_t jump_hits(const windows_t *windows, uint32_t number) noexcept nogil

# Adds what the board has of every site to the sites' own counts, and gives the board up.
cdef void jump_hits_fold(windows_t *windows, const sites_t *sites) noexcept nogil
