"""What hit code in front of an instruction may change without anybody noticing."""

from collections import namedtuple

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from uprobe_core.abi cimport (
    FLOW_CALL,
    FLOW_CALL_INDIRECT,
    FLOW_JCC,
    FLOW_JMP,
    FLOW_JMP_INDIRECT,
    FLOW_LOOP,
    FLOW_NEXT,
    INSN_REPEATED,
    MAP_0F,
    MAP_4,
    MAP_ONE,
    effects_t,
    insn_t,
)
from uprobe_core.x86.decode cimport DECODE_64, insn_decode
from uprobe_core.x86.effects cimport insn_effects
from uprobe_core.x86.registers cimport REG_RSP

cdef extern from "decode_options.h" nogil:
    uint32_t decode_host_vendor()

cdef enum:
    EFFORT = 192        # instructions looked at for one place
    WAITING = 32        # branches whose other side has not been followed yet
    SEEN = 256          # a power of two, more than EFFORT
    GPRS = 0xFFEF       # all but rsp
    MOD_REGISTER = 0xC0

# What is still undecided on the way to a place: neither read nor overwritten so far.
cdef struct open_t:
    uint64_t ip
    uint32_t gprs
    uint32_t flags

cdef struct walk_t:
    const uint8_t *code
    size_t size
    uint64_t vaddr
    uint32_t options
    uint32_t live_gprs
    uint32_t live_flags
    uint32_t read_flags  # of the live ones: some path reads them
    int effort
    int waiting
    open_t todo[WAITING]
    open_t seen[SEEN]  # by address: what was undecided when the walk came by; the key is ip + 1, 0 where empty


cdef void walk_give_up(walk_t *walk, uint32_t gprs, uint32_t flags) noexcept nogil:
    """Where a path leaves what is known: all that is undecided is alive."""
    walk.live_gprs |= gprs
    walk.live_flags |= flags


cdef bint walk_is_new(walk_t *walk, open_t *at) noexcept nogil:
    """Whether anything is undecided at a place that was not when the walk came by before. Keeps only that."""
    cdef uint64_t index = (at.ip * <uint64_t>0x9E3779B97F4A7C15) >> 56
    while walk.seen[index].ip and walk.seen[index].ip != at.ip + 1:
        index = (index + 1) & (SEEN - 1)
    at.gprs &= ~walk.seen[index].gprs
    at.flags &= ~walk.seen[index].flags
    walk.seen[index].ip = at.ip + 1
    walk.seen[index].gprs |= at.gprs
    walk.seen[index].flags |= at.flags
    return at.gprs != 0 or at.flags != 0


cdef void walk_later(walk_t *walk, uint64_t ip, uint32_t gprs, uint32_t flags) noexcept nogil:
    if walk.waiting == WAITING:
        walk_give_up(walk, gprs, flags)
        return
    walk.todo[walk.waiting].ip = ip
    walk.todo[walk.waiting].gprs = gprs
    walk.todo[walk.waiting].flags = flags
    walk.waiting += 1


cdef void walk_path(walk_t *walk, open_t at) noexcept nogil:
    """Follow one path until all is decided or nothing more is known."""
    cdef insn_t insn
    cdef effects_t effects
    cdef uint64_t place
    while True:
        # what earlier paths found alive needs no answer any more
        at.gprs &= ~walk.live_gprs
        at.flags &= ~walk.live_flags
        if not walk_is_new(walk, &at):
            return
        place = at.ip - walk.vaddr
        walk.effort -= 1
        if walk.effort < 0 or place >= walk.size \
                or insn_decode(walk.code + place, walk.size - place, at.ip, walk.options, &insn):
            walk_give_up(walk, at.gprs, at.flags)
            return
        insn_effects(&insn, &effects)
        walk.live_gprs |= effects.reads & at.gprs
        walk.live_flags |= effects.flags_read & at.flags
        walk.read_flags |= effects.flags_read & at.flags
        at.gprs &= ~(effects.reads | effects.kills)
        at.flags &= ~(effects.flags_read | flags_killed(&insn, &effects))
        if insn.flow in (FLOW_JCC, FLOW_LOOP):
            walk_later(walk, insn.target, at.gprs, at.flags)
            at.ip += insn.length
        elif insn.flow == FLOW_JMP:
            at.ip = insn.target
        elif insn.flow == FLOW_NEXT:
            at.ip += insn.length
        else:
            walk_give_up(walk, at.gprs, at.flags)
            return


cdef uint32_t flags_killed(const insn_t *insn, const effects_t *effects) noexcept nogil:
    """The flags whose old value never matters afterwards. A shift or rotation by 0 leaves all flags as they were (SDM
    vol. 2, SAL/SAR/SHL/SHR), and so does a repeated instruction that is done not once."""
    cdef bint by_immediate, by_cl
    if insn.attrs & INSN_REPEATED:
        return 0
    by_immediate = insn.opcode in (0xC0, 0xC1) and insn.map in (MAP_ONE, MAP_4) \
        or insn.opcode in (0xA4, 0xAC, 0x24, 0x2C) and insn.map in (MAP_0F, MAP_4)
    by_cl = insn.opcode in (0xD2, 0xD3) and insn.map in (MAP_ONE, MAP_4) \
        or insn.opcode in (0xA5, 0xAD) and insn.map in (MAP_0F, MAP_4)
    if by_cl or by_immediate and not insn.imm & 0x1F:
        return 0
    return effects.flags_written


cdef void scan_function(const uint8_t *code, size_t size, uint64_t vaddr, uint32_t options, bint *calls, bint *below,
                        bint *writes_flags) noexcept nogil:
    """Of the whole function: whether it calls, whether it names memory below the stack pointer, or may, and whether it
    changes flags or leaves for where that may be."""
    cdef insn_t insn
    cdef effects_t effects
    cdef size_t at = 0
    calls[0] = below[0] = writes_flags[0] = False
    while at < size:
        if insn_decode(code + at, size - at, vaddr + at, options, &insn):
            below[0] = True
            return
        insn_effects(&insn, &effects)
        if insn.flow in (FLOW_CALL, FLOW_CALL_INDIRECT):
            calls[0] = True
        if insn.has_sib and insn.sib & 7 == REG_RSP and not insn.rex & 1 and insn.modrm < MOD_REGISTER and insn.disp < 0:
            below[0] = True
        if effects.flags_written & LIVENESS_FLAGS or insn.flow in (FLOW_CALL, FLOW_CALL_INDIRECT, FLOW_JMP_INDIRECT) \
                or insn.flow in (FLOW_JMP, FLOW_JCC) and insn.target - vaddr >= size:
            writes_flags[0] = True
        at += insn.length


cdef void liveness_at(const uint8_t *code, size_t size, uint64_t vaddr, uint32_t options, uint64_t ip, bint entry,
                      liveness_t *out) noexcept nogil:
    cdef walk_t walk
    cdef open_t start
    cdef bint calls = False, below = False, writes_flags = False
    walk.code, walk.size, walk.vaddr, walk.options = code, size, vaddr, options
    walk.live_gprs = walk.live_flags = walk.read_flags = 0
    walk.effort = EFFORT
    walk.waiting = 0
    memset(walk.seen, 0, sizeof(walk.seen))
    start.ip, start.gprs, start.flags = ip, GPRS, LIVENESS_FLAGS
    walk_path(&walk, start)
    while walk.waiting:
        walk.waiting -= 1
        walk_path(&walk, walk.todo[walk.waiting])
    out.dead_gprs = GPRS & ~walk.live_gprs
    out.dead_flags = LIVENESS_FLAGS & ~walk.live_flags
    scan_function(code, size, vaddr, options, &calls, &below, &writes_flags)
    # The caller expects no flag to survive a call: the ABI has none that do, but DF. A compiler that knows the function
    # could (gcc -fipa-ra knows which registers it leaves alone), but not where the function changes flags itself.
    if entry and writes_flags and not walk.read_flags:
        out.dead_flags = LIVENESS_FLAGS
    # Compilers use the red zone in functions only that call nothing, as a call would overwrite it.
    out.red_zone = not entry and (below or not calls)


Liveness = namedtuple("Liveness", "dead_registers dead_flags red_zone")
Liveness.__doc__ = """What may be changed before an instruction.

dead_registers: a mask, bit n is register n. dead_flags: EFLAGS bits. red_zone: whether the 128 bytes below the stack
pointer may be in use.
"""


def liveness(const uint8_t[::1] code not None, vaddr: int, ip: int, *, entry: bool = False) -> Liveness:
    """Of the place before the instruction at `ip` in a function, whose bytes `code` begin at `vaddr`.

    entry: whether the function is called at `ip`.
    """
    cdef liveness_t found
    cdef const uint8_t *start = &code[0] if code.shape[0] else NULL
    liveness_at(start, code.shape[0], vaddr, DECODE_64 | decode_host_vendor(), ip, entry, &found)
    return Liveness(found.dead_gprs, found.dead_flags, bool(found.red_zone))
