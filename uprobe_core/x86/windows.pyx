"""Which bytes a jump may take the place of."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from array import array

from uprobe_core.abi cimport (
    ENC_LEGACY,
    FLOW_INT,
    FLOW_IRET,
    FLOW_JMP,
    FLOW_JMP_FAR,
    FLOW_JMP_INDIRECT,
    FLOW_NEVER,
    FLOW_NEXT,
    FLOW_RET,
    FLOW_RET_FAR,
    FLOW_SYSCALL,
    FLOW_SYSRET,
    INSN_MAX,
    INSN_MAY_FAULT,
    INSN_MEM_READ,
    INSN_MEM_WRITE,
    INSN_STACK,
    MAP_0F,
    MAP_ONE,
    MODE_TRAP,
    REFUSAL_FAR_TRANSFER,
    REFUSAL_FAULTS,
    REFUSAL_INDIRECT,
    REFUSAL_INSIDE,
    REFUSAL_LED_INTO,
    REFUSAL_NONE,
    REFUSAL_NOT_EXECUTABLE,
    REFUSAL_NO_START,
    REFUSAL_PAGE,
    REFUSAL_SHORT,
    REFUSAL_SYSTEM_CALL,
    RIP_AUTO,
    insn_t,
    plan_t,
)
from uprobe_core.x86.decode cimport insn_decode
from uprobe_core.x86.marks cimport bit_test, bit_test_any
from uprobe_core.x86.relocate cimport REACH_NEAR, plan_make
from uprobe_core.x86.targets cimport Text

cdef enum:
    OPCODE_NOP = 0x90
    OPCODE_NOP_LONG = 0x1F
    OPCODE_INT3 = 0xCC

# What one instruction of a segment means to its windows.
cdef enum part_bits:
    PART_FAULTS = 1  # may raise a fault other than by the stack
    PART_ENDS = 2    # never falls through

# The instructions of one segment. A page has at most PAGE_SIZE of them.
cdef struct segment_t:
    size_t start
    size_t end
    size_t count
    uint16_t offset[PAGE_SIZE]   # of each instruction, from the segment's start
    uint8_t length[PAGE_SIZE]
    uint8_t part[PAGE_SIZE]      # enum part_bits
    uint8_t refusal[PAGE_SIZE]   # of the instruction; after the cut: of its window
    uint16_t window[PAGE_SIZE]   # index of the first instruction of its window
    uint8_t extent[PAGE_SIZE]    # at a window's first instruction: bytes


cdef int insn_refusal(const text_t *text, size_t at, const insn_t *insn) noexcept nogil:
    """Why the instruction cannot run elsewhere, or REFUSAL_NONE."""
    cdef plan_t plan
    if bit_test_any(text.targets, at + 1, at + insn.length):
        return REFUSAL_LED_INTO
    if (at + text.vaddr) // PAGE_SIZE != (at + text.vaddr + insn.length - 1) // PAGE_SIZE:
        return REFUSAL_PAGE
    if insn.flow in (FLOW_SYSCALL, FLOW_SYSRET):
        return REFUSAL_SYSTEM_CALL
    if insn.flow in (FLOW_IRET, FLOW_JMP_FAR, FLOW_RET_FAR):
        return REFUSAL_FAR_TRANSFER
    plan_make(insn, text.code + at, text.vaddr + at, MODE_TRAP, RIP_AUTO, REACH_NEAR, &plan)
    if not plan.refusal and insn.flow == FLOW_INT:  # int 0x80
        return REFUSAL_SYSTEM_CALL
    return plan.refusal


cdef int insn_part(const insn_t *insn) noexcept nogil:
    cdef int part = 0
    # The stack that push and pop use is there: a thread that has overrun it cannot be handed a signal on it either.
    if insn.attrs & INSN_MAY_FAULT and (insn.attrs & (INSN_MEM_READ | INSN_MEM_WRITE) or not insn.attrs & INSN_STACK):
        part = PART_FAULTS
    if insn.flow in (FLOW_JMP, FLOW_JMP_INDIRECT, FLOW_RET, FLOW_JMP_FAR, FLOW_RET_FAR, FLOW_IRET, FLOW_NEVER):
        part |= PART_ENDS
    return part


cdef size_t segment_first(const text_t *text, size_t at) noexcept nogil:
    """Where the segment begins that holds the instruction at `at`."""
    cdef size_t before
    while not bit_test(text.targets, at):
        before = at
        while before and at - before < INSN_MAX:
            before -= 1
            if bit_test(text.insns, before):
                break
        # Between two functions nothing begins; and the next one's start is a target.
        if before == at or not bit_test(text.insns, before) \
                or (before + text.vaddr) // PAGE_SIZE != (at + text.vaddr) // PAGE_SIZE:
            break
        at = before
    return at


cdef void segment_read(const text_t *text, uint32_t options, size_t start, segment_t *segment) noexcept nogil:
    cdef size_t at = start, count = 0
    cdef uint64_t page = (start + text.vaddr) // PAGE_SIZE
    cdef insn_t insn
    while at < text.size and bit_test(text.insns, at) and (at + text.vaddr) // PAGE_SIZE == page:
        if count and bit_test(text.targets, at):
            break
        if insn_decode(text.code + at, text.size - at, text.vaddr + at, options, &insn):
            break
        segment.offset[count] = <uint16_t>(at - start)
        segment.length[count] = insn.length
        segment.part[count] = <uint8_t>insn_part(&insn)
        segment.refusal[count] = <uint8_t>insn_refusal(text, at, &insn)
        at += insn.length
        count += 1
    segment.start = start
    segment.end = at
    segment.count = count


cdef bint insn_is_padding(const insn_t *insn, uint8_t first) noexcept nogil:
    """A nop or int3. endbr64 is none: something may begin with it."""
    if first == OPCODE_INT3:
        return True
    if insn.flow != FLOW_NEXT or insn.encoding != ENC_LEGACY:
        return False
    return (insn.map == MAP_ONE and insn.opcode == OPCODE_NOP and not insn.rex & 1) \
        or (insn.map == MAP_0F and insn.opcode == OPCODE_NOP_LONG)


cdef size_t padding_after(const text_t *text, uint32_t options, size_t at, size_t wanted) noexcept nogil:
    """At least `wanted` bytes of whole instructions that belong to nobody and never run, from `at` on; 0: not so many."""
    cdef size_t end = at
    cdef insn_t insn
    while end < at + wanted:
        if end >= text.size or bit_test(text.insns, end) or bit_test(text.targets, end) \
                or insn_decode(text.code + end, text.size - end, text.vaddr + end, options, &insn) \
                or not insn_is_padding(&insn, text.code[end]) \
                or bit_test_any(text.insns, end, end + insn.length) \
                or bit_test_any(text.targets, end, end + insn.length):
            return 0
        end += insn.length
    if (at + text.vaddr - 1) // PAGE_SIZE != (end + text.vaddr - 1) // PAGE_SIZE:
        return 0
    return end - at


cdef void window_set(segment_t *segment, size_t first, size_t end, size_t extent, int refusal) noexcept nogil:
    """The instructions from index `first` to before `end` are one window, or are all refused."""
    cdef size_t index
    for index in range(first, end):
        segment.window[index] = <uint16_t>first
        segment.refusal[index] = <uint8_t>refusal
    segment.extent[first] = <uint8_t>(0 if refusal else extent)


cdef size_t span(const segment_t *segment, size_t first, size_t end) noexcept nogil:
    """Bytes of the instructions from index `first` to before `end`."""
    return segment.offset[end - 1] + segment.length[end - 1] - segment.offset[first] if end > first else 0


cdef void remainder_cut(const text_t *text, uint32_t options, segment_t *segment, size_t previous, size_t first,
                        size_t end, bint may_join, int refusal) noexcept nogil:
    """Instructions of less than five bytes: part of the window before them, or with padding, or none."""
    cdef size_t extent = span(segment, first, end), padding
    if may_join and previous != first:
        window_set(segment, previous, end, span(segment, previous, end), REFUSAL_NONE)
        return
    if segment.part[end - 1] & PART_ENDS and end == segment.count:
        padding = padding_after(text, options, segment.end, WINDOW_MIN - extent)
        if padding:
            window_set(segment, first, end, extent + padding, REFUSAL_NONE)
            return
    window_set(segment, first, end, 0, refusal)


cdef void run_cut(const text_t *text, uint32_t options, uint32_t rules, segment_t *segment, size_t first,
                  size_t end) noexcept nogil:
    """Cut instructions that can all run elsewhere, from index `first` to before `end`, into windows."""
    cdef size_t begin = first, previous = first, index
    cdef bint single = (rules & WINDOW_SINGLE) != 0, fault_first = (rules & WINDOW_FAULT_FIRST) != 0
    cdef bint faults = False  # an instruction of the window that is being gathered does
    cdef int refusal = REFUSAL_SHORT
    for index in range(first, end):
        if index > begin and (single or fault_first and segment.part[index] & PART_FAULTS):
            refusal = REFUSAL_SHORT if single else REFUSAL_FAULTS
            remainder_cut(text, options, segment, previous, begin, index, not single and not faults, refusal)
            begin = previous = index
            faults = False
        faults = faults or (fault_first and segment.part[index] & PART_FAULTS)
        if span(segment, begin, index + 1) >= WINDOW_MIN:
            window_set(segment, begin, index + 1, span(segment, begin, index + 1), REFUSAL_NONE)
            previous = begin
            begin = index + 1
            faults = False
    if begin < end:
        remainder_cut(text, options, segment, previous, begin, end, not single and not faults, refusal)


cdef void segment_cut(const text_t *text, uint32_t options, uint32_t rules, size_t start,
                      segment_t *segment) noexcept nogil:
    cdef size_t index, first = 0
    segment_read(text, options, start, segment)
    for index in range(segment.count):
        if segment.refusal[index]:
            run_cut(text, options, rules, segment, first, index)
            window_set(segment, index, index + 1, 0, segment.refusal[index])
            first = index + 1
    run_cut(text, options, rules, segment, first, segment.count)


cdef int refuse_unknown(const text_t *text, uint32_t options, size_t at) noexcept nogil:
    """Why nothing begins at `at`."""
    cdef insn_t insn
    cdef size_t before = at
    while before and at - before < INSN_MAX:
        before -= 1
        if bit_test(text.insns, before):
            if not insn_decode(text.code + before, text.size - before, text.vaddr + before, options, &insn) \
                    and before + insn.length > at:
                return REFUSAL_INSIDE
            break
    return REFUSAL_NO_START


cdef void windows_find(const text_t *text, uint32_t options, uint32_t rules, const uint64_t *sites, size_t count,
                       uint64_t *starts, uint8_t *lengths, uint8_t *refusals) noexcept nogil:
    cdef segment_t segment
    cdef size_t index, at, insn = 0, first
    segment.start = segment.end = segment.count = 0
    for index in range(count):
        starts[index] = lengths[index] = 0
        if sites[index] - text.vaddr >= text.size:
            refusals[index] = REFUSAL_NOT_EXECUTABLE
            continue
        at = sites[index] - text.vaddr
        if not bit_test(text.insns, at):
            refusals[index] = <uint8_t>refuse_unknown(text, options, at)
            continue
        if not segment.start <= at < segment.end:
            segment_cut(text, options, rules, segment_first(text, at), &segment)
            insn = 0
        elif segment.offset[insn] > at - segment.start:
            insn = 0
        while segment.start + segment.offset[insn] < at:
            insn += 1
        first = segment.window[insn]
        refusals[index] = segment.refusal[insn]
        if not refusals[index]:
            starts[index] = text.vaddr + segment.start + segment.offset[first]
            lengths[index] = segment.extent[first]
        elif refusals[index] == REFUSAL_SHORT and bit_test(text.opened, at):
            refusals[index] = REFUSAL_INDIRECT


def find(text: Text, sites: array, *, fault_first: bool = False, single: bool = False) -> tuple[array, array, array]:
    """The windows of some sites: starts ("Q"), lengths in bytes and refusals ("B"), in the order of the sites.

    sites ("Q"): addresses. Start and length are 0 where there is no window. fault_first: the target handles faults.
    single: a window has one instruction.
    """
    cdef const uint64_t[::1] wanted = sites
    cdef size_t count = wanted.shape[0]
    cdef uint32_t rules = (WINDOW_FAULT_FIRST if fault_first else 0) | (WINDOW_SINGLE if single else 0)
    starts, lengths, refusals = array("Q", bytes(8 * count)), array("B", bytes(count)), array("B", bytes(count))
    cdef uint64_t[::1] starts_view
    cdef uint8_t[::1] lengths_view, refusals_view
    if count:
        starts_view, lengths_view, refusals_view = starts, lengths, refusals
        with nogil:
            windows_find(&text.text, text.options, rules, &wanted[0], count, &starts_view[0], &lengths_view[0],
                         &refusals_view[0])
    return starts, lengths, refusals
