"""Many addresses at once: where decoding may begin for each, and whether it finds an instruction there."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from uprobe_core.abi cimport FLOW_NEXT, FLOW_XBEGIN, STEP_TRANSACTION, insn_t
from uprobe_core.x86.decode cimport DECODE_64, insn_decode

cdef extern from "decode_options.h" nogil:
    uint32_t decode_host_vendor()

cdef enum:
    MARK_BEGINS = 1
    MARK_MAY_ABORT = 2

BEGINS = MARK_BEGINS
MAY_ABORT = MARK_MAY_ABORT


def find_starts(const uint64_t[::1] vaddrs, uint64_t bias, const uint64_t[::1] starts, const uint64_t[::1] ends,
                const uint64_t[::1] reach, uint64_t[::1] found):
    """The start of the innermost of some ranges that covers each address, in `found`; 0: none does. How many have one.

    vaddrs: sorted; each is `bias` more than what the ranges speak of, and so are the starts found. starts, ends: of the
    half-open ranges, sorted by start; they may nest. reach: the furthest end among the ranges up to each.
    """
    cdef Py_ssize_t count = vaddrs.shape[0], spans = starts.shape[0]
    cdef Py_ssize_t i, at, last = -1
    cdef uint64_t vaddr
    cdef size_t known = 0
    if ends.shape[0] != spans or reach.shape[0] != spans or found.shape[0] != count:
        raise ValueError(f"{spans} starts need {spans} ends and reaches, {count} addresses {count} results")
    with nogil:
        for i in range(count):
            vaddr = vaddrs[i] - bias
            while last + 1 < spans and starts[last + 1] <= vaddr:
                last += 1
            at = last
            while at >= 0 and reach[at] > vaddr and ends[at] <= vaddr:
                at -= 1
            found[i] = 0
            if at >= 0 and ends[at] > vaddr:
                found[i] = starts[at] + bias
                known += 1
    return known


def mark_boundaries(const uint8_t[::1] code, uint64_t code_vaddr, const uint64_t[::1] vaddrs,
                    const uint64_t[::1] starts, uint8_t[::1] marks):
    """Whether each address begins an instruction, as decoding from its start tells: BEGINS in `marks`, else 0; MAY_ABORT
    where one does behind an xbegin without an xend in between, so that it may run in a transaction. How many BEGIN.

    code: the bytes from `code_vaddr` on. vaddrs: sorted, in the code; starts: one each, 0 for none.
    """
    cdef Py_ssize_t count = vaddrs.shape[0]
    cdef Py_ssize_t i
    cdef uint64_t start = 0, at = 0, end = code_vaddr + <uint64_t>code.shape[0]
    cdef uint32_t options = DECODE_64 | decode_host_vendor()
    cdef insn_t insn
    cdef bint transaction = False
    cdef size_t known = 0
    if starts.shape[0] != count or marks.shape[0] != count:
        raise ValueError(f"{count} addresses need {count} starts and {count} marks")
    with nogil:
        for i in range(count):
            marks[i] = 0
            if starts[i] < code_vaddr or vaddrs[i] >= end:
                continue
            if starts[i] != start:
                start = at = starts[i]
                transaction = False
            while at < vaddrs[i]:
                # One byte further where there is no instruction: what follows may be found again.
                if insn_decode(&code[at - code_vaddr], end - at, at, options, &insn):
                    at += 1
                else:
                    at += insn.length
                    if insn.flow == FLOW_XBEGIN:
                        transaction = True
                    elif insn.step == STEP_TRANSACTION and insn.flow == FLOW_NEXT:  # xend
                        transaction = False
            if at == vaddrs[i]:
                marks[i] = MARK_MAY_ABORT if transaction else MARK_BEGINS
                known += not transaction
    return known
