"""Serving hits: see hit.pxd. Nothing here decodes; the plan byte says what to do."""

from libc.stdint cimport uint32_t, uint64_t
from posix.types cimport pid_t

from uprobe_core.abi cimport FIX_IP, FIX_SCRATCH, FIX_SEGMENT, PLAN_ONE_STOP, WAY_IN_PLACE, regs_t
from uprobe_core.linux.memory cimport memory_load, memory_store
from uprobe_core.linux.ptrace cimport (
    WORD_GS_BASE, ip_get, ip_set, regs_change, regs_get, regs_set, task_cont, task_step, word_get, word_set,
)
from uprobe_core.patch.arenas cimport slot_at, slot_vaddr
from uprobe_core.patch.sites cimport SITE_CALLBACK, SITE_STEP, SITE_TAPPED, SLOT_NONE, site_at, site_t
from uprobe_core.trace.deferral cimport signal_catch_up
from uprobe_core.trace.engine cimport LOOP_HIT, LOOP_IN_PLACE
from uprobe_core.trace.restart cimport hit_is_replay, hit_take_back, restart_await
from uprobe_core.trace.taps cimport taps_serve
from uprobe_core.trace.tasks cimport TASK_DEFERRING, TASK_STEPPING
from uprobe_core.x86.emulate cimport emulate, emulate_ip, plan_can_step, plan_sets_ip
from uprobe_core.x86.fixup cimport (
    FIXUP_AGAIN, FIXUP_DONE, FIXUP_FAULTS, FIXUP_IP, FIXUP_READ, access_t, fixup_abort, fixup_begin, fixup_finish, place_t,
    syscall_restarts,
)
from uprobe_core.x86.registers cimport regs_word
from uprobe_core.x86.resolve cimport RESOLVE_BACK, RESOLVE_FAILED, RESOLVE_RESTART, slot_resolve

# Rounds of "read this, then call again" that one instruction can ask for; more is a bug, not a loop.
cdef enum:
    ACCESS_MAX = 4
    USER_BITS = 47  # of an address, where page tables have four levels


cdef void place_fill(const engine_t *engine, site_t *site, place_t *place) noexcept nogil:
    place.ip = site.vaddr
    place.slot_ip = 0 if site.slot == SLOT_NONE else slot_vaddr(&engine.text.arenas, site.slot)
    place.kind = site.plan
    place.length = site.length
    place.operand = site.operand
    place.original = site.original


cdef inline int access_make(pid_t tid, access_t *access) noexcept nogil:
    if access.write:
        return memory_store(tid, access.vaddr, &access.value, access.size)
    access.value = 0
    return memory_load(tid, access.vaddr, &access.value, access.size)


cdef int hit_serve(engine_t *engine, task_t *task, site_t *site) noexcept nogil:
    cdef long status
    if site.state & (SITE_CALLBACK | SITE_TAPPED):
        status = regs_get(task.tid, &engine.hit_regs)
        if status < 0:
            return <int>status
        engine.hit_regs.rip = site.vaddr
        if not hit_is_replay(task, site, engine.hit_regs.rsp):
            if site.state & SITE_TAPPED:
                taps_serve(&engine.taps, engine.hit_site, task.tid, &engine.hit_regs)
            if site.state & SITE_CALLBACK:
                site.hits += 1
                return LOOP_HIT
    site.hits += 1
    return hit_resume(engine, task, site, NULL)


cdef int hit_emulate(task_t *task, const place_t *place, regs_t *regs) noexcept nogil:
    """Does in registers and memory what the instruction does. Where its memory cannot be had it would fault: the task
    runs it in its slot, and the processor says how."""
    cdef regs_t before = regs[0]
    cdef access_t access
    cdef int outcome, rounds
    cdef int status = 0
    access.size = 0
    for rounds in range(ACCESS_MAX):
        outcome = emulate(place, regs, &access)
        if outcome != FIXUP_READ:
            break
        status = access_make(task.tid, &access)
        if status < 0:
            break
    if status == 0 and outcome == FIXUP_IP:
        return <int>ip_set(task.tid, regs.rip)
    if status == 0 and outcome == FIXUP_DONE and access.size:
        status = access_make(task.tid, &access)
    if (status < 0 or outcome == FIXUP_FAULTS) and place.slot_ip:
        before.rip = place.slot_ip
        return <int>regs_set(task.tid, &before)
    if status < 0:
        regs_set(task.tid, &before)
        return LOOP_IN_PLACE
    return <int>regs_set(task.tid, regs)


cdef inline unsigned int lent_word(const place_t *place) noexcept nogil:
    """The only register beside ip that a plan changes around its step, as a word of struct user; 0: none, or all have to
    be known. Two words are transferred faster than all."""
    if place.kind == (FIX_IP | FIX_SCRATCH):
        return regs_word(place.operand)
    return WORD_GS_BASE if place.kind == (FIX_IP | FIX_SEGMENT) else 0


cdef inline long step_regs_set(task_t *task, const place_t *place, const regs_t *regs) noexcept nogil:
    cdef long status = regs_set(task.tid, regs)
    if status == 0 and place.kind & FIX_SEGMENT:
        status = word_set(task.tid, WORD_GS_BASE, regs.gs_base)
    return status


cdef int step_begin(task_t *task, const place_t *place, regs_t *regs) noexcept nogil:
    """regs: what the registers shall be; NULL: what they are."""
    cdef regs_t own
    cdef unsigned int word = lent_word(place)
    cdef long status = 0 if regs == NULL else regs_change(task.tid, regs)
    if place.kind == FIX_IP:
        task.saved.eflags = 0
        status = status or ip_set(task.tid, place.slot_ip)
    else:
        own.eflags = own.gs_base = 0
        if word:
            status = status or word_get(task.tid, word, &(<uint64_t *>&own)[word])
        else:
            status = status or regs_get(task.tid, &own)
        if place.kind & FIX_SEGMENT and own.gs_base >> USER_BITS:
            return LOOP_IN_PLACE  # ptrace could not put such a base back: see regs_set
        fixup_begin(place, &own, &task.saved)
        if word:
            status = status or word_set(task.tid, word, (<uint64_t *>&own)[word]) or ip_set(task.tid, own.rip)
        else:
            status = status or step_regs_set(task, place, &own)
    if status < 0:
        return <int>status
    task.flags |= TASK_STEPPING
    return <int>task_step(task.tid, 0)


cdef int hit_resume(engine_t *engine, task_t *task, site_t *site, regs_t *regs) noexcept nogil:
    cdef place_t place
    cdef regs_t own
    cdef long status = 0
    place_fill(engine, site, &place)
    if task.site != engine.hit_site:
        task.site = engine.hit_site
        task.taken_back = 0
    if regs != NULL and regs.rip != site.vaddr:
        # The callback sent the thread elsewhere.
        status = regs_change(task.tid, regs)
    elif plan_sets_ip(site.plan):
        if regs == NULL:
            status = ip_set(task.tid, emulate_ip(&place))
        else:
            regs.rip = emulate_ip(&place)
            status = regs_change(task.tid, regs)
    elif site.plan == (PLAN_ONE_STOP | WAY_IN_PLACE):
        status = 0 if regs == NULL else regs_change(task.tid, regs)
        return <int>status if status < 0 else LOOP_IN_PLACE
    elif site.state & SITE_STEP:
        return step_begin(task, &place, regs)
    else:
        if regs == NULL:
            regs = &own
            status = regs_get(task.tid, regs)
            regs.rip = site.vaddr
        else:
            status = regs_change(task.tid, regs)
        if status == 0:
            status = hit_emulate(task, &place, regs)
    return <int>(task_cont(task.tid, 0) if status == 0 else status)


cdef inline int step_end(engine_t *engine, task_t *task) noexcept nogil:
    """The instruction is done: the task goes on, with the signal that waited for it."""
    if task.flags & TASK_DEFERRING:
        return signal_catch_up(engine, task)
    return <int>task_cont(task.tid, 0)


cdef int step_finish(engine_t *engine, task_t *task) noexcept nogil:
    cdef site_t *site = site_at(&engine.text.sites, task.site)
    cdef place_t place
    cdef access_t access
    cdef regs_t regs
    cdef unsigned int word
    cdef long status
    cdef int outcome
    place_fill(engine, site, &place)
    word = lent_word(&place)
    if site.plan == FIX_IP or word:
        # Most instructions: ip, and the register that was lent, are all that there is to repair.
        status = ip_get(task.tid, &regs.rip)
        if status == 0 and fixup_finish(&place, &task.saved, &regs, &access) == FIXUP_DONE:
            task.flags &= ~<uint32_t>TASK_STEPPING
            status = word_set(task.tid, word, (<uint64_t *>&regs)[word]) if word else 0
            status = status or ip_set(task.tid, regs.rip)
            return <int>status if status < 0 else step_end(engine, task)
    status = regs_get(task.tid, &regs)
    if status < 0:
        return <int>status
    access.size = 0
    outcome = fixup_finish(&place, &task.saved, &regs, &access)
    if outcome == FIXUP_AGAIN:
        return <int>task_step(task.tid, 0)
    # FIXUP_FAILED: the slot was scrambled by the target. It goes on from wherever that led it.
    task.flags &= ~<uint32_t>TASK_STEPPING
    if outcome == FIXUP_DONE:
        if access.size:
            access_make(task.tid, &access)
        status = step_regs_set(task, &place, &regs)
    return <int>status if status < 0 else step_end(engine, task)


cdef int step_abort(engine_t *engine, task_t *task, bint faulted) noexcept nogil:
    cdef site_t *site = site_at(&engine.text.sites, task.site)
    cdef place_t place
    cdef regs_t regs
    cdef long status = regs_get(task.tid, &regs)
    if status < 0:
        return <int>status
    task.flags &= ~<uint32_t>TASK_STEPPING
    place_fill(engine, site, &place)
    fixup_abort(&place, &task.saved, &regs)
    if regs.rip != place.ip:
        # A system call was made, and has ended.
        if syscall_restarts(&regs):
            restart_await(task, site)
    elif not faulted:
        hit_take_back(engine, task, site, regs.rsp)
    return <int>step_regs_set(task, &place, &regs)


cdef site_t *slot_owner(engine_t *engine, uint64_t ip) noexcept nogil:
    """The site whose slot holds `ip`, or NULL. Rare enough to look for it; a removed site keeps its slot until no task
    can be in it."""
    cdef uint32_t slot = slot_at(&engine.text.arenas, ip)
    cdef uint32_t number
    if slot != SLOT_NONE:
        for number in range(engine.text.sites.count):
            if site_at(&engine.text.sites, number).slot == slot:
                return site_at(&engine.text.sites, number)
    return NULL


cdef bint slot_can_finish(engine_t *engine, uint64_t ip) noexcept nogil:
    cdef site_t *site = slot_owner(engine, ip)
    return site != NULL and plan_can_step(<unsigned int>site.plan)


cdef int slot_leave(engine_t *engine, task_t *task, uint64_t ip, bint faulted) noexcept nogil:
    cdef site_t *site = slot_owner(engine, ip)
    cdef place_t place
    cdef access_t access
    cdef regs_t regs
    cdef long status
    cdef int outcome
    if site == NULL:
        return 0
    status = regs_get(task.tid, &regs)
    if status < 0:
        return <int>status
    place_fill(engine, site, &place)
    access.size = 0
    outcome = slot_resolve(&place, engine.text.decode_options, &regs, &access)
    if outcome == RESOLVE_FAILED:
        return 0
    if access.size:
        access_make(task.tid, &access)
    if outcome == RESOLVE_RESTART:
        restart_await(task, site)
    elif outcome == RESOLVE_BACK and not faulted:
        hit_take_back(engine, task, site, regs.rsp)
    return <int>regs_set(task.tid, &regs)
