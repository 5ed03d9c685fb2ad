"""Text that changes hands: a process that is a copy of another, and memory that is not what it was."""

from libc.stdint cimport uint32_t, uint64_t

from uprobe_core.patch.text cimport text_t

# A process that has a copy of the memory of another: `text` gets its sites, with counts of 0, and its arenas.
# 0 or -ENOMEM.
cdef int text_copy(text_t *text, const text_t *other) noexcept nogil

# Makes what is in memory agree with what the sites say: armed ones get their patch, those of others are taken back. arm
# False: all are taken back. How many had to be written, or -errno.
cdef int text_match(text_t *text, int mem_fd, bint arm) noexcept nogil

# The memory of [low, high) is another's by now: its sites are gone, and nothing is written.
# How many there were.
cdef uint32_t text_forget(text_t *text, uint64_t low, uint64_t high) noexcept nogil
