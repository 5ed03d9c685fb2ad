"""The target's text: inserting sites, writing and taking back their patches.

Every write is checked first: the bytes there must be what is expected, or nothing is written. No allocation in the
target happens here; when slots run out the caller makes an arena and asks again.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from uprobe_core.linux.journal cimport journal_t
from uprobe_core.patch.arenas cimport arenas_t
from uprobe_core.patch.sites cimport sites_t
from uprobe_core.patch.traps cimport traps_t

ctypedef struct text_t:
    int mem_fd               # /proc/PID/mem, read and write
    uint32_t decode_options  # of the target's mode and processor
    bint shadow_stack        # the processor checks the target's return addresses
    sites_t sites
    arenas_t arenas
    traps_t traps            # where threads go that hit a site when no tracer is there any more
    journal_t *journal       # NULL: nothing is written down
    uint32_t *record_chunks  # of the journal: record i of chunk n is of site n * CHUNK_SITES + i
    uint32_t record_chunk_count
    uint32_t *orphans      # taken slots that no site has any more; free once no task stands in one
    uint32_t orphan_count, orphan_room

# One wish: a site at `vaddr`. The rest is filled in.
ctypedef struct insertion_t:
    uint64_t vaddr
    uint64_t reach_vaddr  # STATUS_NO_ROOM with place PLACE_NEAR: what the slot must also reach
    int status            # STATUS_OK, STATUS_REFUSED, STATUS_NO_ROOM (make an arena, ask again), or -errno
    uint32_t site
    uint8_t refusal       # of STATUS_REFUSED
    uint8_t place         # of STATUS_NO_ROOM: enum plan_place
    uint8_t fresh         # 1: the site was not live before

# What the wishes without room need: slots anywhere; near slots, and the lowest and highest address that one of them has
# to reach; slots below their sites, and the lowest of those sites.
ctypedef struct slot_needs_t:
    size_t anywhere
    size_t near
    uint64_t lowest, highest
    size_t below
    uint64_t below_vaddr

cdef inline void needs_clear(slot_needs_t *needs) noexcept nogil:
    needs.anywhere = needs.near = needs.below = 0
    needs.lowest = needs.below_vaddr = ~<uint64_t>0
    needs.highest = 0

# One more insertion of STATUS_NO_ROOM.
cdef void needs_add(slot_needs_t *needs, const insertion_t *wish) noexcept nogil

# What the bytes of [vaddr, vaddr + size) should be: the mapped file's. size 0: not known, memory is believed.
ctypedef struct image_t:
    uint64_t vaddr
    uint64_t size
    const uint8_t *bytes

cdef int text_make(text_t *text, int mem_fd, uint32_t decode_options) noexcept nogil
cdef void text_drop(text_t *text) noexcept nogil

# Inserts sites, each planned for `mode` and `strategy`, with its slot written but not armed. near: a slot within ±2 GiB
# may be asked for. The outcome of each is in its insertion. 0, or -errno where the target's memory cannot be had.
cdef int text_insert(text_t *text, insertion_t *insertions, size_t count, int mode, int strategy, int near,
                     const image_t *image) noexcept nogil

# Writes the patches of `count` sites; the number written goes to `done`. Sites whose byte is not as expected are left
# alone and STATUS_CHANGED is returned at the end. 0, STATUS_CHANGED, or -errno.
cdef int text_arm(text_t *text, const uint32_t *sites, size_t count, size_t *done) noexcept nogil
cdef int text_disarm(text_t *text, const uint32_t *sites, size_t count, size_t *done) noexcept nogil

# Frees the slots of removed sites, but for those at `count` instruction pointers. All tasks stand still, and these are
# theirs. The number of slots freed.
cdef uint32_t text_reclaim(text_t *text, const uint64_t *ips, size_t count) noexcept nogil

# Writes the slots of all live sites in [low, high) again, by the plans that they were made with. 0 or -errno.
cdef int text_rewrite(text_t *text, uint64_t low, uint64_t high) noexcept nogil
