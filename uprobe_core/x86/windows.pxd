"""Which bytes a jump may take the place of.

The text is a row of segments: each begins where control may come in, or on a new page. A segment is cut from its start
into windows: whole instructions, five bytes or more. So a text has one set of windows, whichever sites are asked for,
and no two windows overlap.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from uprobe_core.x86.marks cimport text_t

cdef enum:
    WINDOW_MIN = 5    # bytes: a jump with a rel32
    WINDOW_MAX = 64   # more than any window has
    PAGE_SIZE = 4096

# Bits of `rules`: what else the target asks for.
cdef enum window_rule:
    WINDOW_FAULT_FIRST = 1  # it handles SIGSEGV, SIGBUS or SIGFPE: what may fault begins its window
    WINDOW_SINGLE = 2       # others save and restore its addresses (Go): a window is one instruction

# For each of `count` sites (addresses of the text; rising ones are cheapest): the start of its window, the window's
# bytes, and an enum refusal; start and length are 0 where there is no window.
#
# A window's first instruction that never falls through, if there is one, is its last; what follows it is padding, which
# belongs to nobody and never runs. A call is the last instruction of its window, so that the address that it pushes is
# the one behind the window.
cdef void windows_find(const text_t *text, uint32_t options, uint32_t rules, const uint64_t *sites, size_t count,
                       uint64_t *starts, uint8_t *lengths, uint8_t *refusals) noexcept nogil
