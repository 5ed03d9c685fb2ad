"""Patching: see text.pxd."""

from libc.errno cimport ENOMEM, EPROTO
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset

from uprobe_core.abi cimport (
    FIX_IP, FIX_SCRATCH, FIX_SEGMENT, FLOW_JCC, FLOW_JMP, FLOW_LOOP, FLOW_NEXT, INSN_MAX, MODE_STEP, MODE_TRAP,
    PLACE_ANY, PLACE_BELOW, PLACE_NEAR, PLACE_NONE, PLAN_ONE_STOP, REFUSAL_CHANGED, REFUSAL_NONE,
    REFUSAL_SHADOW_STACK, REFUSAL_NOT_EXECUTABLE, REFUSAL_TRUNCATED, REFUSAL_UNDECODABLE, RIP_AUTO, RIP_SCRATCH, RIP_SEGMENT, SLOT_SIZE,
    WAY_BOOST, WAY_SKIP, insn_t, plan_t,
)
from uprobe_core.linux.journal cimport RECORD_PATCH, RECORD_STEP, journal_chunk_take, journal_entry_t, record_write
from uprobe_core.linux.memory cimport memory_read_some, memory_write
from uprobe_core.patch.arenas cimport (
    arena_slot_put, arena_slot_take, arenas_drop, arenas_make, slot_at, slot_vaddr,
)
from uprobe_core.patch.sites cimport (
    CHUNK_COUNT, CHUNK_SHIFT, CHUNK_SITES, SITE_ARMED, SITE_LIVE, SITE_NONE, SITE_STEP, SLOT_NONE, site_add, site_at, site_find, site_t, sites_drop, sites_make,
)
from uprobe_core.patch.traps cimport traps_drop, traps_flush, traps_get, traps_set
from uprobe_core.status cimport (
    STATUS_CHANGED, STATUS_NO_ROOM, STATUS_OK, STATUS_REFUSED, STATUS_TRUNCATED,
)
from uprobe_core.x86.decode cimport insn_decode
from uprobe_core.x86.relocate cimport REACH_NEAR, REACH_NONE, plan_make, plan_makes_up_return, plan_place

cdef enum:
    PAGE = 4096
    BREAKPOINT = 0xcc
    OPCODE_INT = 0xcd
    WRITE_BYTES = 4096    # slots are written in runs

# A near slot must reach, and be reached from, everything with a rel32: ±2 GiB less room for both ends.
cdef enum:
    REACH = 0x7fff0000

# One page of the target and the bytes after it, read once for all sites in it.
ctypedef struct window_t:
    uint64_t vaddr
    size_t size
    uint8_t bytes[PAGE + 16]

# Slots that follow each other, to be written in one go.
ctypedef struct run_t:
    uint64_t vaddr
    size_t size
    uint8_t bytes[WRITE_BYTES]


cdef int text_make(text_t *text, int mem_fd, uint32_t decode_options) noexcept nogil:
    cdef int status
    text.mem_fd = mem_fd
    text.decode_options = decode_options
    status = sites_make(&text.sites)
    return status if status < 0 else arenas_make(&text.arenas)


cdef void text_drop(text_t *text) noexcept nogil:
    free(text.orphans)
    free(text.record_chunks)
    traps_drop(&text.traps)
    sites_drop(&text.sites)
    arenas_drop(&text.arenas)


cdef inline const uint8_t *window_at(const text_t *text, window_t *window, uint64_t vaddr, size_t *size) noexcept nogil:
    """The bytes at `vaddr`, up to 16 of them."""
    cdef uint64_t page = vaddr & ~<uint64_t>(PAGE - 1)
    if window.vaddr != page or window.size == 0:
        window.vaddr = page
        window.size = memory_read_some(text.mem_fd, page, window.bytes, PAGE + 16)
    size[0] = min(<size_t>16, window.size - (vaddr - page)) if window.size > vaddr - page else 0
    return window.bytes + (vaddr - page)


cdef int run_flush(const text_t *text, run_t *run) noexcept nogil:
    cdef int status = 0
    if run.size:
        status = memory_write(text.mem_fd, run.vaddr, run.bytes, run.size)
    run.size = 0
    return status


cdef int run_append(const text_t *text, run_t *run, uint64_t vaddr, const uint8_t *slot) noexcept nogil:
    cdef int status = 0
    if run.size and (run.vaddr + run.size != vaddr or run.size == WRITE_BYTES):
        status = run_flush(text, run)
    if run.size == 0:
        run.vaddr = vaddr
    memcpy(run.bytes + run.size, slot, SLOT_SIZE)
    run.size += SLOT_SIZE
    return status


cdef inline bint plan_wants_slot(const plan_t *plan) noexcept nogil:
    """Though the tracer could do without: emulation may find its memory unmapped, and then the slot's copy faults as the
    original would; and the tracer may be killed. Where only ip changes, to the next instruction, there is no more to do
    for the handler of traps either, unless what it finds before the new ip looks like a trap of the target's own."""
    if plan.kind != (PLAN_ONE_STOP | WAY_SKIP):
        return True
    return plan.length > 1 and (plan.original[plan.length - 1] == BREAKPOINT or plan.original[plan.length - 2] == OPCODE_INT)


cdef int insertion_plan(text_t *text, insertion_t *wish, int mode, int strategy, int near, const image_t *image,
                        window_t *window, plan_t *plan) noexcept nogil:
    """Decodes what is there and plans it; the bytes believed are the file's, and memory must agree with them."""
    cdef size_t size, known
    cdef const uint8_t *code = window_at(text, window, wish.vaddr, &size)
    cdef const uint8_t *memory = code
    cdef insn_t insn
    cdef int status
    if size == 0:
        wish.refusal = REFUSAL_NOT_EXECUTABLE
        return STATUS_REFUSED
    if image.vaddr <= wish.vaddr < image.vaddr + image.size:
        known = image.vaddr + image.size - wish.vaddr
        code = image.bytes + (wish.vaddr - image.vaddr)
        size = min(size, known)
    status = insn_decode(code, size, wish.vaddr, text.decode_options, &insn)
    if status:
        wish.refusal = REFUSAL_TRUNCATED if status == STATUS_TRUNCATED else REFUSAL_UNDECODABLE
        return STATUS_REFUSED
    if memcmp(code, memory, insn.length):
        wish.refusal = REFUSAL_CHANGED
        return STATUS_REFUSED
    status = plan_make(&insn, code, wish.vaddr, mode, strategy, near, plan)
    wish.refusal = plan.refusal
    if status == STATUS_OK and text.shadow_stack and plan_makes_up_return(&insn, plan):
        wish.refusal = REFUSAL_SHADOW_STACK
        return STATUS_REFUSED
    if plan.place == PLACE_NONE and plan_wants_slot(plan) and near != REACH_NONE:
        plan.place = PLACE_ANY
    return status


cdef uint32_t plan_slot_take(text_t *text, const plan_t *plan, uint64_t vaddr) noexcept nogil:
    cdef uint64_t low = 0, high = ~<uint64_t>0
    cdef uint64_t first, last
    if plan.place == PLACE_NEAR:
        first = min(vaddr, plan.reach_vaddr)
        last = max(vaddr, plan.reach_vaddr)
        low = last - REACH if last > REACH else 0
        high = first + REACH
    elif plan.place == PLACE_BELOW:
        high = vaddr
    return arena_slot_take(&text.arenas, low, high)


cdef int slot_orphan(text_t *text, uint32_t slot) noexcept nogil:
    """Remembers a slot that a thread may still be in, though its site has another one now."""
    cdef void *grown
    if text.orphan_count == text.orphan_room:
        grown = realloc(text.orphans, (text.orphan_room * 2 + 64) * sizeof(uint32_t))
        if grown == NULL:
            return -ENOMEM
        text.orphans = <uint32_t *>grown
        text.orphan_room = text.orphan_room * 2 + 64
    text.orphans[text.orphan_count] = slot
    text.orphan_count += 1
    return 0


cdef int site_orphan(text_t *text, const site_t *site) noexcept nogil:
    """All slots of a site that gets others."""
    cdef uint32_t refuge = slot_at(&text.arenas, traps_get(&text.traps, site.vaddr))
    cdef int status = slot_orphan(text, site.slot)
    return slot_orphan(text, refuge) if status == 0 and refuge != SLOT_NONE and refuge != site.slot else status


cdef bint slot_is_used(const text_t *text, uint32_t slot, const uint64_t *ips, size_t count) noexcept nogil:
    cdef size_t i
    for i in range(count):
        if slot_at(&text.arenas, ips[i]) == slot:
            return True
    return False


cdef uint32_t refuge_put(text_t *text, const site_t *site) noexcept nogil:
    """The site was removed, and no thread is in its slots: a trap that is still under way finds the instruction itself.
    How many slots were freed beside the site's own."""
    cdef uint32_t slot = slot_at(&text.arenas, traps_get(&text.traps, site.vaddr))
    if text.traps.page_vaddr == 0:
        return 0
    traps_set(&text.traps, site.vaddr, site.vaddr)
    if slot == SLOT_NONE or slot == site.slot:
        return 0
    arena_slot_put(&text.arenas, slot)
    return 1


cdef uint32_t text_reclaim(text_t *text, const uint64_t *ips, size_t count) noexcept nogil:
    cdef site_t *site
    cdef uint32_t number, kept = 0, freed = 0
    for number in range(text.sites.count):
        site = site_at(&text.sites, number)
        if site.state & SITE_LIVE:
            continue
        if site.slot != SLOT_NONE and not slot_is_used(text, site.slot, ips, count):
            freed += refuge_put(text, site)
            arena_slot_put(&text.arenas, site.slot)
            site.slot = SLOT_NONE
            freed += 1
    for number in range(text.orphan_count):
        if slot_is_used(text, text.orphans[number], ips, count):
            text.orphans[kept] = text.orphans[number]
            kept += 1
        else:
            arena_slot_put(&text.arenas, text.orphans[number])
            freed += 1
    text.orphan_count = kept
    traps_flush(&text.traps, text.mem_fd)
    return freed


cdef void site_fill(site_t *site, const plan_t *plan, uint32_t slot) noexcept nogil:
    site.plan = plan.kind
    site.state = SITE_LIVE
    if not plan.kind & PLAN_ONE_STOP:
        site.state |= SITE_STEP
    memcpy(site.original, plan.original, INSN_MAX)
    site.length = plan.length
    site.operand = plan.operand
    site.slot = slot


cdef inline bint site_plans_so(const site_t *site, const plan_t *plan) noexcept nogil:
    """Whether a site was made by the same plan, from the same bytes: then its slot would be written the same."""
    return (site.plan == plan.kind and site.operand == plan.operand and site.length == plan.length
            and memcmp(site.original, plan.original, plan.length) == 0)


cdef int records_reserve(text_t *text, size_t count) noexcept nogil:
    """Space in the journal for all sites that there are and `count` more."""
    cdef uint64_t sites = text.sites.count + count
    cdef uint32_t chunk
    cdef int status
    if text.journal == NULL:
        return 0
    if text.record_chunks == NULL:
        text.record_chunks = <uint32_t *>calloc(CHUNK_COUNT, sizeof(uint32_t))
        if text.record_chunks == NULL:
            return -ENOMEM
    while <uint64_t>text.record_chunk_count * CHUNK_SITES < sites:
        status = journal_chunk_take(text.journal, &chunk)
        if status < 0:
            return status
        text.record_chunks[text.record_chunk_count] = chunk
        text.record_chunk_count += 1
    return 0


cdef void site_record(text_t *text, uint32_t number) noexcept nogil:
    """Writes down what a patch of the site would change. It may be armed from now on."""
    cdef site_t *site = site_at(&text.sites, number)
    cdef journal_entry_t record
    if text.journal == NULL:
        return
    memset(&record, 0, sizeof(journal_entry_t))
    record.kind = RECORD_PATCH
    record.flags = RECORD_STEP if site.state & SITE_STEP else 0
    record.length = 1
    record.plan = <uint8_t>site.plan
    record.operand = site.operand
    record.insn_length = site.length
    record.vaddr = site.vaddr
    record.place_vaddr = 0 if site.slot == SLOT_NONE else slot_vaddr(&text.arenas, site.slot)
    memcpy(record.original, site.original, site.length)
    record.patched[0] = BREAKPOINT
    record_write(text.journal, &text.journal.chunks[text.record_chunks[number >> CHUNK_SHIFT]][number & (CHUNK_SITES - 1)],
                 &record)


cdef void step_refuge(text_t *text, const site_t *site, const insn_t *insn, uint64_t go_vaddr) noexcept nogil:
    """A thread that was to be stepped through its slot when the tracer died: before the step it goes to the other slot, and
    behind it to where the instruction leads, if ip is all that there is to repair. A branch's copy, when taken, skips the
    nop before the int3: plan_place, FORM_STEP."""
    cdef uint64_t slot_ip = slot_vaddr(&text.arenas, site.slot)
    cdef uint64_t next_ip = site.vaddr + site.length
    if site.plan != FIX_IP:
        return
    if insn.flow == FLOW_NEXT or insn.flow == FLOW_JMP:
        traps_set(&text.traps, slot_ip + insn.length, next_ip)
        traps_set(&text.traps, slot_ip + insn.length + 1, next_ip if insn.flow == FLOW_NEXT else insn.target)
    elif insn.flow == FLOW_JCC or insn.flow == FLOW_LOOP:
        traps_set(&text.traps, slot_ip + insn.length, next_ip)
        traps_set(&text.traps, slot_ip + insn.length + 1, insn.target)
    traps_set(&text.traps, slot_ip, go_vaddr)


cdef int refuge_slot(text_t *text, const site_t *site, run_t *run, uint64_t *go_vaddr) noexcept nogil:
    """A slot of its own for a stepped site, whose slot leads nowhere: one with a jump back."""
    cdef insn_t insn
    cdef plan_t plan
    cdef uint32_t slot
    if (insn_decode(site.original, site.length, site.vaddr, text.decode_options, &insn)
            or plan_make(&insn, site.original, site.vaddr, MODE_TRAP, RIP_AUTO, REACH_NEAR, &plan)):
        return STATUS_OK
    if plan.place == PLACE_NONE:
        plan.place = PLACE_ANY
    slot = plan_slot_take(text, &plan, site.vaddr)
    if slot == SLOT_NONE:
        return STATUS_NO_ROOM
    if plan_place(&plan, site.vaddr, slot_vaddr(&text.arenas, slot)):
        arena_slot_put(&text.arenas, slot)
        return STATUS_OK
    go_vaddr[0] = slot_vaddr(&text.arenas, slot)
    if site.slot != SLOT_NONE:
        step_refuge(text, site, &insn, go_vaddr[0])
    return run_append(text, run, go_vaddr[0], plan.slot)


cdef int refuge_make(text_t *text, const site_t *site, const plan_t *plan, run_t *run) noexcept nogil:
    """Where a thread goes that hits the site when there is no tracer."""
    cdef uint64_t go_vaddr = 0
    cdef int status = STATUS_OK
    if text.traps.page_vaddr == 0:
        return STATUS_OK
    if site.state & SITE_STEP:
        status = refuge_slot(text, site, run, &go_vaddr)
        # Room for the first slot, but none for the second: it is a mode that is not promised to survive.
        status = min(status, 0)
    elif site.slot != SLOT_NONE:
        go_vaddr = slot_vaddr(&text.arenas, site.slot)
    elif plan.kind == (PLAN_ONE_STOP | WAY_SKIP):
        go_vaddr = site.vaddr + site.length
    traps_set(&text.traps, site.vaddr, go_vaddr)
    return status


cdef int insertion_make(text_t *text, insertion_t *wish, int mode, int strategy, int near, const image_t *image,
                        window_t *window, run_t *run) noexcept nogil:
    cdef plan_t plan
    cdef uint32_t number = site_find(&text.sites, wish.vaddr)
    cdef uint32_t slot = SLOT_NONE
    cdef int status
    wish.fresh = 0
    if number != SITE_NONE and site_at(&text.sites, number).state & SITE_LIVE:
        wish.site = number
        return STATUS_OK
    status = insertion_plan(text, wish, mode, strategy, near, image, window, &plan)
    if status:
        return status
    if number != SITE_NONE and site_at(&text.sites, number).slot != SLOT_NONE:
        # Removed before: a thread may still be in its slot, whose bytes depend on the plan and must stay as they are.
        if site_plans_so(site_at(&text.sites, number), &plan):
            site_fill(site_at(&text.sites, number), &plan, site_at(&text.sites, number).slot)
            site_record(text, number)
            wish.site = number
            wish.fresh = 1
            return STATUS_OK
        status = site_orphan(text, site_at(&text.sites, number))
        if status < 0:
            return status
        site_at(&text.sites, number).slot = SLOT_NONE
    if plan.place != PLACE_NONE:
        slot = plan_slot_take(text, &plan, wish.vaddr)
        if slot == SLOT_NONE:
            wish.place = plan.place
            wish.reach_vaddr = plan.reach_vaddr
            return STATUS_NO_ROOM
        status = plan_place(&plan, wish.vaddr, slot_vaddr(&text.arenas, slot))
        if status:
            arena_slot_put(&text.arenas, slot)
            wish.refusal = plan.refusal
            return status
        status = run_append(text, run, slot_vaddr(&text.arenas, slot), plan.slot)
    if status == 0 and number == SITE_NONE:
        status = site_add(&text.sites, wish.vaddr, &number)
    if status:
        if slot != SLOT_NONE:
            arena_slot_put(&text.arenas, slot)
        return status
    site_fill(site_at(&text.sites, number), &plan, slot)
    site_record(text, number)
    wish.site = number
    wish.fresh = 1
    return refuge_make(text, site_at(&text.sites, number), &plan, run)


cdef void needs_add(slot_needs_t *needs, const insertion_t *wish) noexcept nogil:
    if wish.place == PLACE_NEAR:
        needs.near += 1
        needs.lowest = min(needs.lowest, wish.vaddr, wish.reach_vaddr)
        needs.highest = max(needs.highest, wish.vaddr, wish.reach_vaddr)
    elif wish.place == PLACE_BELOW:
        needs.below += 1
        needs.below_vaddr = min(needs.below_vaddr, wish.vaddr)
    else:
        needs.anywhere += 1


cdef int text_insert(text_t *text, insertion_t *insertions, size_t count, int mode, int strategy, int near,
                     const image_t *image) noexcept nogil:
    cdef window_t window
    cdef run_t run
    cdef size_t i
    cdef int status = records_reserve(text, count)
    window.size = 0
    window.vaddr = 0
    run.size = 0
    if status < 0:
        return status
    for i in range(count):
        insertions[i].refusal = REFUSAL_NONE
        insertions[i].status = insertion_make(text, &insertions[i], mode, strategy, near, image, &window, &run)
    status = run_flush(text, &run)
    return status if status < 0 else traps_flush(&text.traps, text.mem_fd)


cdef int patch_write(text_t *text, const uint32_t *sites, size_t count, bint arm, size_t *done) noexcept nogil:
    """One byte a site: int3 in, or the original's first byte back."""
    cdef window_t window
    cdef site_t *site
    cdef const uint8_t *there
    cdef uint8_t before, after
    cdef size_t i, size
    cdef int status, outcome = 0
    window.size = 0
    window.vaddr = 0
    done[0] = 0
    for i in range(count):
        site = site_at(&text.sites, sites[i])
        if ((site.state & SITE_ARMED) != 0) == arm:
            continue
        before = site.original[0] if arm else BREAKPOINT
        after = BREAKPOINT if arm else site.original[0]
        there = window_at(text, &window, site.vaddr, &size)
        if size == 0 or there[0] != before:
            # Somebody else wrote here, or the mapping is gone: what is there is not ours to overwrite.
            outcome = STATUS_CHANGED
            site.state &= ~<uint64_t>SITE_ARMED
            continue
        status = memory_write(text.mem_fd, site.vaddr, &after, 1)
        if status < 0:
            return status
        done[0] += 1
        site.state ^= SITE_ARMED
    return outcome


cdef int text_arm(text_t *text, const uint32_t *sites, size_t count, size_t *done) noexcept nogil:
    return patch_write(text, sites, count, True, done)


cdef int text_disarm(text_t *text, const uint32_t *sites, size_t count, size_t *done) noexcept nogil:
    return patch_write(text, sites, count, False, done)


cdef int site_strategy(const site_t *site) noexcept nogil:
    """The answer to a RIP-relative operand that the site was made with."""
    if site.plan == (PLAN_ONE_STOP | WAY_BOOST):
        return site.operand
    if not site.plan & PLAN_ONE_STOP and site.plan & FIX_SCRATCH:
        return RIP_SCRATCH
    if not site.plan & PLAN_ONE_STOP and site.plan & FIX_SEGMENT:
        return RIP_SEGMENT
    return RIP_AUTO


cdef int text_rewrite(text_t *text, uint64_t low, uint64_t high) noexcept nogil:
    cdef insn_t insn
    cdef plan_t plan
    cdef run_t run
    cdef site_t *site
    cdef uint64_t vaddr
    cdef uint32_t number
    cdef int mode
    cdef int status = 0
    run.size = 0
    for number in range(text.sites.count):
        site = site_at(&text.sites, number)
        if site.slot == SLOT_NONE or not site.state & SITE_LIVE:
            continue
        vaddr = slot_vaddr(&text.arenas, site.slot)
        if vaddr < low or vaddr >= high:
            continue
        mode = MODE_STEP if site.state & SITE_STEP else MODE_TRAP
        if (insn_decode(site.original, site.length, site.vaddr, text.decode_options, &insn)
                or plan_make(&insn, site.original, site.vaddr, mode, site_strategy(site), REACH_NEAR, &plan)
                or plan_place(&plan, site.vaddr, vaddr)):
            return -EPROTO
        status = run_append(text, &run, vaddr, plan.slot)
        if status < 0:
            return status
    return run_flush(text, &run)
