"""Indirect jumps, and whether it is known where they lead."""

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from array import array

from uprobe_core.abi cimport (
    ENC_LEGACY,
    FLOW_CALL,
    FLOW_CALL_INDIRECT,
    FLOW_JCC,
    FLOW_JMP,
    FLOW_JMP_FAR,
    FLOW_JMP_INDIRECT,
    FLOW_LOOP,
    FLOW_NEVER,
    FLOW_NEXT,
    FLOW_RET,
    FLOW_RET_FAR,
    INSN_ADDRESS_ONLY,
    INSN_MAX,
    INSN_RIP_RELATIVE,
    INSN_SEGMENT_BASE,
    MAP_0F,
    MAP_ONE,
    SEG_FS,
    effects_t,
    insn_t,
)
from uprobe_core.x86.decode cimport insn_decode
from uprobe_core.x86.effects cimport insn_effects
from uprobe_core.x86.marks cimport bit_next, bit_set, bit_test, text_t
from uprobe_core.x86.registers cimport REG_RAX, REG_RSP
from uprobe_core.x86.tables cimport table_read, tables_read, unit_at, units_t
from uprobe_core.x86.targets cimport Text, image_t

cdef enum:
    EFFORT = 1 << 15   # instructions looked at for one jump
    PLACES = 64        # of which it is still open what is in the register there
    LOOK_BACK = 32     # instructions between the load of a distance and the addition
    LABELS = 64        # of which one function takes the address
    JUMP_SIZE = 5
    MOD_REGISTER = 0xC0
    REX_B = 1
    REX_R = 4

# A place before which a register matters.
cdef struct question_t:
    size_t at
    unsigned int number

cdef struct search_t:
    const text_t *text
    const image_t *image
    uint32_t options
    size_t start       # of the function, offsets in the text
    size_t end
    int effort
    int count
    question_t asked[PLACES]


cdef inline unsigned int register_of_rm(const insn_t *insn) noexcept nogil:
    return (insn.modrm & 7) | (8 if insn.rex & REX_B else 0)


cdef inline unsigned int register_of_reg(const insn_t *insn) noexcept nogil:
    return (insn.modrm >> 3 & 7) | (8 if insn.rex & REX_R else 0)


cdef inline bint decode_at(const search_t *search, size_t at, insn_t *insn) noexcept nogil:
    return insn_decode(search.text.code + at, search.text.size - at, search.text.vaddr + at, search.options, insn) == 0


cdef inline bint never_falls_through(const insn_t *insn) noexcept nogil:
    return insn.flow in (FLOW_JMP, FLOW_JMP_INDIRECT, FLOW_RET, FLOW_JMP_FAR, FLOW_RET_FAR, FLOW_NEVER)


cdef size_t before(const search_t *search, size_t at) noexcept nogil:
    """The instruction before the one at `at`; `at` itself where there is none in the function."""
    cdef size_t place = at
    while place > search.start and at - place < INSN_MAX:
        place -= 1
        if bit_test(search.text.insns, place):
            return place
    return at


cdef bint ask(search_t *search, size_t at, unsigned int number) noexcept nogil:
    """Ask what a register holds before the instruction at `at`. False: too much was asked, and the search is over."""
    cdef int index
    for index in range(search.count):
        if search.asked[index].at == at and search.asked[index].number == number:
            return True
    if search.count == PLACES:
        search.effort = -1
        return False
    search.asked[search.count].at = at
    search.asked[search.count].number = number
    search.count += 1
    return True


cdef bint ask_of_indirect_jumps(search_t *search, unsigned int number) noexcept nogil:
    """Ask of each of the function's. False: there is none, or too many."""
    cdef size_t place = search.start
    cdef bint found = False
    while (place := bit_next(search.text.jumps, place, search.end)) < search.end:
        if not ask(search, place, number):
            return False
        found = True
        place += 1
    return found


cdef bint ask_where_it_comes_from(search_t *search, size_t at, unsigned int number) noexcept nogil:
    """Ask of every branch of the function that leads to `at`; of its indirect jumps, if no branch does.

    False: nothing leads there, or too much.
    """
    cdef insn_t insn
    cdef size_t place = search.start
    cdef bint found = False
    while (place := bit_next(search.text.insns, place, search.end)) < search.end:
        search.effort -= 1
        if search.effort < 0 or not decode_at(search, place, &insn):
            return False
        if insn.flow in (FLOW_JMP, FLOW_JCC, FLOW_LOOP) and insn.target == search.text.vaddr + at:
            found = True
            if not ask(search, place, number):
                return False
        place += insn.length
    return found or ask_of_indirect_jumps(search, number)


cdef bint loads_distance(const search_t *search, size_t at, unsigned int number) noexcept nogil:
    """Whether the register was last loaded with 32 bits from memory, sign-extended, before the one at `at`."""
    cdef insn_t insn
    cdef effects_t effects
    cdef int steps
    cdef size_t place
    for steps in range(LOOK_BACK):
        place = before(search, at)
        if place == at or not decode_at(search, place, &insn):
            return False
        at = place
        insn_effects(&insn, &effects)
        if effects.writes >> number & 1:
            # movslq r64, m32
            return insn.encoding == ENC_LEGACY and insn.map == MAP_ONE and insn.opcode == 0x63 \
                and insn.modrm < MOD_REGISTER
    return False


cdef bint takes_table(const search_t *search) noexcept nogil:
    """Whether the function computes the address of a table."""
    cdef insn_t insn
    cdef size_t at = search.start
    while (at := bit_next(search.text.insns, at, search.end)) < search.end:
        if not decode_at(search, at, &insn):
            return False
        if insn.attrs & INSN_RIP_RELATIVE and insn.attrs & INSN_ADDRESS_ONLY \
                and insn.target - search.image.vaddr < search.image.size \
                and bit_test(search.image.tables, insn.target - search.image.vaddr):
            return True
        at += insn.length
    return False


cdef bint sum_is_known(search_t *search, size_t at, unsigned int first, unsigned int second) noexcept nogil:
    """Whether the sum of two registers, made at `at`, is an entry of a jump table and its base."""
    return (loads_distance(search, at, first) or loads_distance(search, at, second)) and takes_table(search)


cdef bint writer_is_known(search_t *search, size_t at, const insn_t *insn, unsigned int number) noexcept nogil:
    """Whether what `insn` leaves in the register is an address that was taken as it is, or asks on."""
    cdef unsigned int rm = register_of_rm(insn), reg = register_of_reg(insn)
    cdef bint memory = insn.modrm < MOD_REGISTER
    if insn.encoding != ENC_LEGACY:
        return False
    if insn.map == MAP_0F and insn.opcode & 0xF0 == 0x40:  # cmov: the one or the other
        return ask(search, at, number) and (memory or ask(search, at, rm))
    if insn.map != MAP_ONE:
        return False
    if insn.opcode & 0xF8 == 0x58:  # pop
        return True
    if insn.opcode & 0xF8 == 0xB8:  # mov imm
        return True
    if insn.operand_size != 8:
        return False
    if insn.opcode == 0x8B:         # mov reg, r/m
        return memory or ask(search, at, rm)
    if insn.opcode == 0x89:         # mov r/m, reg
        return ask(search, at, reg)
    if insn.opcode == 0xC7:         # mov imm32
        return True
    if insn.opcode == 0x8D:         # lea: of a label; or an addition
        if insn.attrs & INSN_RIP_RELATIVE:
            return True
        return insn.has_sib and insn.modrm & MOD_REGISTER == 0 and insn.sib < 0x40 and insn.sib & 7 != 5 \
            and sum_is_known(search, at, (insn.sib & 7) | (8 if insn.rex & REX_B else 0),
                             (insn.sib >> 3 & 7) | (8 if insn.rex & 2 else 0))
    if insn.opcode == 0x03:         # add reg, r/m
        return sum_is_known(search, at, reg, reg if memory else rm)
    if insn.opcode == 0x01 and not memory:
        return sum_is_known(search, at, reg, rm)
    # glibc keeps pointers to code mangled: rotated, and xor'ed with a secret of the thread
    if insn.opcode == 0xC1 and insn.modrm & 0xF8 == 0xC8 or insn.opcode == 0x33 and insn.segment == SEG_FS:
        return ask(search, at, number)
    return False


cdef int answer(search_t *search, question_t question) noexcept nogil:
    """enum jump_verdict for what a register holds before an instruction. May ask more."""
    cdef insn_t insn
    cdef effects_t effects
    cdef size_t at = question.at
    cdef bint entered, led_to
    while at != search.start:
        entered, led_to = bit_test(search.text.targets, at), False
        if entered:
            led_to = ask_where_it_comes_from(search, at, question.number)
        at = before(search, at)
        search.effort -= 1
        if search.effort < 0 or not decode_at(search, at, &insn):
            return JUMP_UNKNOWN
        # A place to which control comes, but by no branch of the function: something that is not looked into.
        if entered and not led_to and insn.flow not in (FLOW_CALL, FLOW_CALL_INDIRECT):
            return JUMP_UNKNOWN
        if never_falls_through(&insn):
            return JUMP_KNOWN  # by the branches, or never run
        if insn.flow in (FLOW_CALL, FLOW_CALL_INDIRECT) and question.number == REG_RAX:
            return JUMP_KNOWN  # what a function returns was taken somewhere
        insn_effects(&insn, &effects)
        if effects.writes >> question.number & 1:
            return JUMP_KNOWN if writer_is_known(search, at, &insn, question.number) else JUMP_UNKNOWN
    return JUMP_FROM_ENTRY


cdef int jump_judge(const text_t *text, const image_t *image, const units_t *units, size_t unit, size_t at,
                    uint32_t options) noexcept nogil:
    cdef search_t search
    cdef insn_t insn
    cdef int index = 0, verdict = JUMP_KNOWN
    search.text, search.image, search.options = text, image, options
    search.start, search.end = units.starts[unit] - text.vaddr, units.ends[unit] - text.vaddr
    search.effort = EFFORT
    search.count = 0
    if not decode_at(&search, at, &insn):
        return JUMP_UNKNOWN
    if insn.modrm < MOD_REGISTER:  # through memory: a pointer that was stored there
        return JUMP_KNOWN
    ask(&search, at, register_of_rm(&insn))
    while index < search.count and verdict != JUMP_UNKNOWN:
        verdict = max(verdict, answer(&search, search.asked[index]))
        index += 1
    return verdict


cdef bint labels_read(const text_t *text, const image_t *image, const units_t *units, size_t unit,
                      uint32_t options) noexcept nogil:
    """Read tables of distances from a label of the function, as for `goto *(&&label + distances[i])`.

    False: it has too many labels.
    """
    cdef uint64_t labels[LABELS]
    cdef size_t start = units.starts[unit] - text.vaddr, end = units.ends[unit] - text.vaddr, at = start
    cdef int count = 0, index
    cdef insn_t insn
    cdef uint64_t table
    while (at := bit_next(text.insns, at, end)) < end:
        if not insn_decode(text.code + at, text.size - at, text.vaddr + at, options, &insn) \
                and insn.attrs & INSN_ADDRESS_ONLY and start < insn.target - text.vaddr < end:
            index = 0
            while index < count and labels[index] != insn.target:
                index += 1
            if index == LABELS:
                return False
            labels[index] = insn.target
            count = max(count, index + 1)
        at += 1
    at = start
    while count and (at := bit_next(text.insns, at, end)) < end:
        if not insn_decode(text.code + at, text.size - at, text.vaddr + at, options, &insn) \
                and insn.attrs & INSN_ADDRESS_ONLY and insn.attrs & INSN_RIP_RELATIVE:
            table = insn.target - image.vaddr
            if table < image.size and insn.target - text.vaddr >= text.size:
                for index in range(count):
                    if table_read(text, image, units, insn.target, labels[index]):
                        bit_set(image.tables, table)
        at += 1
    return True


cdef bint lowers_stack(const insn_t *insn) noexcept nogil:
    """push, or sub rsp."""
    if insn.encoding != ENC_LEGACY or insn.map != MAP_ONE:
        return False
    return insn.opcode & 0xF8 == 0x50 \
        or insn.opcode in (0x81, 0x83) and insn.modrm & 0xF8 == 0xE8 and register_of_rm(insn) == REG_RSP


cdef size_t kept_entry(const text_t *text, size_t start, size_t end, uint32_t options) noexcept nogil:
    """The end of the first bytes of a function to which no computed jump leads in their middle; `start`: of none.

    They hold the beginning of a frame: after each instruction there is one more that lowers the stack pointer. A jump
    in between would run that again, and the frame would grow with each; no compiler makes such a loop, nor does anybody
    by hand, since nothing would take those frames away.
    """
    cdef insn_t insn
    cdef size_t at = start
    cdef bint lowered = False
    while at < end and at - start < JUMP_SIZE:
        if insn_decode(text.code + at, text.size - at, text.vaddr + at, options, &insn) \
                or insn.flow != FLOW_NEXT or at > start and bit_test(text.targets, at):
            return start
        lowered = lowers_stack(&insn)
        at += insn.length
    return at if lowered else start


cdef void unit_open(const text_t *text, const units_t *units, size_t unit, uint32_t options) noexcept nogil:
    cdef size_t start = units.starts[unit] - text.vaddr, end = units.ends[unit] - text.vaddr, at = start
    cdef size_t kept = kept_entry(text, start, end, options)
    while (at := bit_next(text.insns, at, end)) < end:
        if not start < at < kept:
            bit_set(text.targets, at)
        bit_set(text.opened, at)
        at += 1


def follow_jumps(text: Text, starts: array, ends: array, framed: bytes) -> array:
    """Find where indirect jumps lead: read all jump tables; open the functions with jumps that nothing explains.

    text: swept, with all that the file's tables name marked. starts, ends ("Q"): of functions, by rising start, that do
    not overlap. framed: for each, not 0 where it begins in a frame that other code has made. Returns the jumps that
    nothing explains ("Q").
    """
    cdef const uint64_t[::1] firsts = starts
    cdef const uint64_t[::1] lasts = ends
    cdef const unsigned char[::1] parts = framed
    cdef units_t units
    cdef size_t at = 0, unit, labelled
    cdef int verdict
    cdef bint complete = True
    found = array("Q")
    if not firsts.shape[0]:
        return found
    units.starts, units.ends, units.count = &firsts[0], &lasts[0], firsts.shape[0]
    with nogil:
        tables_read(&text.text, &text.image, &units)
    labelled = units.count
    while (at := bit_next(text.text.jumps, at, text.text.size)) < text.text.size:
        unit = unit_at(&units, text.text.vaddr + at)
        if unit < units.count:
            if unit != labelled:
                complete = labels_read(&text.text, &text.image, &units, unit, text.options)
                labelled = unit
            verdict = jump_judge(&text.text, &text.image, &units, unit, at, text.options) if complete else JUMP_UNKNOWN
            if verdict == JUMP_UNKNOWN or verdict == JUMP_FROM_ENTRY and parts[unit]:
                found.append(text.text.vaddr + at)
        at += 1
    for vaddr in found:  # not before all are judged: an open function has targets everywhere
        unit_open(&text.text, &units, unit_at(&units, vaddr), text.options)
    return found
