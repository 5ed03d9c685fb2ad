"""Taps: see taps.pxd."""

from libc.errno cimport ENOMEM
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset
from posix.types cimport pid_t

from uprobe_core.abi cimport HIT_COUNT, hitcode_t, regs_t, ring_t
from uprobe_core.linux.memory cimport memory_load
from uprobe_core.trace.ring cimport ring_write
from uprobe_core.x86.predicate cimport hitcode_stack_words, predicate_holds

cdef extern from "trace/ring_words.h" nogil:
    int64_t ring_word_take(uint64_t *word)
    uint64_t ring_word_load(const uint64_t *word)
    void ring_word_store(uint64_t *word, uint64_t value)

cdef enum:
    STACK_WORDS = 256  # HIT_STACK_MAX, as the length of an array
    PAGE = 4096


cdef void taps_drop(taps_t *taps) noexcept nogil:
    cdef uint32_t i
    for i in range(taps.plan_count):
        free(taps.plans[i])
    free(taps.plans)
    free(taps.first)
    free(taps.taps)
    memset(taps, 0, sizeof(taps_t))


cdef long taps_plan(taps_t *taps, const hitcode_t *code, uint8_t *board, uint32_t strides) noexcept nogil:
    cdef tap_plan_t *plan = <tap_plan_t *>calloc(1, sizeof(tap_plan_t))
    cdef void *grown = realloc(taps.plans, (taps.plan_count + 1) * sizeof(tap_plan_t *))
    if grown != NULL:
        taps.plans = <tap_plan_t **>grown
    if plan == NULL or grown == NULL:
        free(plan)
        return -ENOMEM
    plan.code = code[0]
    plan.board = board
    plan.stride = board + (<uint64_t>(strides - 1) << code.shift)
    plan.stack_words = hitcode_stack_words(code)
    taps.plans[taps.plan_count] = plan
    taps.plan_count += 1
    return taps.plan_count - 1


cdef int room_for_site(taps_t *taps, uint32_t site) noexcept nogil:
    cdef uint32_t size = 64
    cdef void *grown
    if site < taps.first_size:
        return 0
    while size <= site:
        size *= 2
    grown = realloc(taps.first, size * sizeof(uint32_t))
    if grown == NULL:
        return -ENOMEM
    taps.first = <uint32_t *>grown
    memset(taps.first + taps.first_size, 0, (size - taps.first_size) * sizeof(uint32_t))
    taps.first_size = size
    return 0


cdef int room_for_tap(taps_t *taps) noexcept nogil:
    cdef uint32_t size = 2 * taps.size if taps.size else 64
    cdef uint32_t i
    cdef void *grown
    if taps.free:
        return 0
    grown = realloc(taps.taps, size * sizeof(tap_t))
    if grown == NULL:
        return -ENOMEM
    taps.taps = <tap_t *>grown
    for i in range(taps.size, size):
        taps.taps[i].next = i + 2 if i + 1 < size else 0
    taps.free = taps.size + 1
    taps.size = size
    return 0


cdef int taps_tie(taps_t *taps, uint32_t site, uint32_t plan) noexcept nogil:
    cdef uint32_t new
    if room_for_site(taps, site) < 0 or room_for_tap(taps) < 0:
        return -ENOMEM
    new = taps.free
    taps.free = taps.taps[new - 1].next
    taps.taps[new - 1].plan = plan
    taps.taps[new - 1].next = taps.first[site]
    taps.first[site] = new
    return 0


cdef int taps_untie(taps_t *taps, uint32_t site, uint32_t plan) noexcept nogil:
    cdef uint32_t *link
    cdef uint32_t found
    if site >= taps.first_size:
        return 0
    link = &taps.first[site]
    while link[0]:
        found = link[0]
        if taps.taps[found - 1].plan == plan:
            link[0] = taps.taps[found - 1].next
            taps.taps[found - 1].next = taps.free
            taps.free = found
            break
        link = &taps.taps[found - 1].next
    return taps.first[site] != 0


cdef uint32_t stack_read(pid_t tid, uint64_t rsp, uint64_t *stack, uint32_t words) noexcept nogil:
    """How many words from rsp on could be read: all, or those up to the end of the page."""
    cdef uint32_t within = <uint32_t>((PAGE - rsp % PAGE) // 8)
    memset(stack, 0, 8 * words)
    if words == 0 or memory_load(tid, rsp, stack, 8 * words) == 0:
        return words
    if 0 < within < words and memory_load(tid, rsp, stack, 8 * within) == 0:
        return within
    return 0


cdef void tap_serve(const tap_plan_t *plan, uint32_t site, pid_t tid, const regs_t *regs) noexcept nogil:
    cdef uint64_t stack[STACK_WORDS]
    cdef uint32_t words = stack_read(tid, regs.rsp, stack, plan.stack_words)
    cdef uint64_t *word
    if not predicate_holds(&plan.code, regs, stack, <uint32_t>tid):
        return
    if plan.code.budget and ring_word_take(<uint64_t *>(plan.board + plan.code.budget)) < 0:
        return
    word = <uint64_t *>(plan.stride + plan.code.offset)
    if plan.code.action == HIT_COUNT:
        ring_word_store(word, ring_word_load(word) + 1)
    else:
        ring_write(<ring_t *>word, &plan.code, site, <uint32_t>tid, regs, stack, words)


cdef void taps_serve(const taps_t *taps, uint32_t site, pid_t tid, const regs_t *regs) noexcept nogil:
    cdef uint32_t number
    if site >= taps.first_size:
        return
    number = taps.first[site]
    while number:
        tap_serve(taps.plans[taps.taps[number - 1].plan], site, tid, regs)
        number = taps.taps[number - 1].next
