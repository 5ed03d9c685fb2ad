"""How the instructions of a stretch of code can be probed, counted."""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset

from uprobe_core.abi cimport REFUSAL_COUNT, REFUSAL_UNDECODABLE, insn_t, plan_t
from uprobe_core.x86.decode cimport DECODE_64, insn_decode
from uprobe_core.x86.relocate cimport plan_make
from uprobe_core.x86.relocate import MODES as _MODES, REACHES as _REACHES, STRATEGIES as _STRATEGIES, VENDORS as _VENDORS

cdef enum:
    KINDS = 256  # of a plan byte


cdef dict counted(const uint64_t *counts, int size):
    """The counts that are not 0, by index."""
    cdef int index
    cdef dict found = {}
    for index in range(size):
        if counts[index]:
            found[index] = counts[index]
    return found


def survey(
    const uint8_t[::1] code not None, ip: int, *, mode: str = "auto", rip: str = "auto", reach: str = "near",
    vendor: str | None = None
) -> tuple[dict[int, int], dict[int, int]]:
    """Plans of all instructions of `code`, from its first byte on: how many by plan byte, and how many by refusal.

    ip: address of the first. mode, rip, reach, vendor: as for `plan`. A byte that begins no instruction counts as one
    that is undecodable.
    """
    cdef uint64_t kinds[KINDS]
    cdef uint64_t refusals[REFUSAL_COUNT]
    cdef insn_t insn
    cdef plan_t made
    cdef uint64_t start_ip = ip
    cdef size_t at = 0
    cdef size_t size = code.shape[0]
    cdef unsigned int options = _VENDORS[vendor] | DECODE_64
    cdef int wanted = _MODES[mode]
    cdef int strategy = _STRATEGIES[rip]
    cdef int near = _REACHES[reach]
    memset(kinds, 0, sizeof(kinds))
    memset(refusals, 0, sizeof(refusals))
    with nogil:
        while at < size:
            if insn_decode(&code[at], size - at, start_ip + at, options, &insn):
                refusals[<int>REFUSAL_UNDECODABLE] += 1
                at += 1
                continue
            plan_make(&insn, &code[at], start_ip + at, wanted, strategy, near, &made)
            if made.refusal:
                refusals[made.refusal] += 1
            else:
                kinds[made.kind] += 1
            at += insn.length
    return counted(kinds, KINDS), counted(refusals, REFUSAL_COUNT)
