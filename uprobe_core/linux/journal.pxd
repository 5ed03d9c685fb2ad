"""The journal: what was changed in a target, in a file that outlives the tracer.

Write first, then change the target: a record is appended (or filled in) before the bytes that it speaks of are written,
and dropped after they are back. Space is reserved before anything else, so that a full disk shows before the target is
touched; records then go through a shared mapping, a few stores each. The kernel keeps what was stored whatever becomes of
the processes that map the file.

Records are numbered. A chunk of 4,096 belongs either to whoever took it (the site table: record i of a chunk is site i of
it) or to the log, which everybody else appends to.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "linux/journal.h" nogil:
    const uint64_t JOURNAL_MAGIC
    const unsigned int JOURNAL_VERSION
    const unsigned int JOURNAL_HEAD_BYTES
    const unsigned int JOURNAL_CHUNK_RECORDS
    const unsigned int JOURNAL_CHUNK_BYTES
    const unsigned int JOURNAL_PATCH_MAX
    cpdef enum record_kind:
        RECORD_NONE
        RECORD_PATCH
        RECORD_AREA
        RECORD_SIGNAL
    cpdef enum area_kind:
        AREA_SLOTS
        AREA_TRAPS
        AREA_JUMPS
        AREA_BOARD
    cpdef enum record_flag:
        RECORD_SEALED
        RECORD_STEP
        RECORD_JUMP
    ctypedef struct journal_entry_t:
        uint8_t kind
        uint8_t flags
        uint8_t length
        uint8_t plan
        uint8_t operand
        uint8_t insn_length
        uint32_t generation
        uint64_t vaddr
        uint64_t place_vaddr
        uint8_t original[16]
        uint8_t patched[16]
    ctypedef struct journal_head_t:
        uint64_t magic
        uint32_t version
        uint32_t pid
        uint64_t start_time
        uint64_t stack_vaddr
        uint32_t generation
        uint32_t chunks
        uint32_t tracer_pid
        uint32_t kept
    void record_publish(journal_entry_t *record, uint8_t kind)

cdef enum:
    JOURNAL_CHUNK_SHIFT = 12
    JOURNAL_CHUNK_MAX = 1 << 15   # 134 million records
    RECORD_UNNUMBERED = 0xffffffff

ctypedef struct journal_t:
    int fd                   # -1: nothing is written down (tests of single parts)
    journal_head_t *head
    journal_entry_t **chunks        # JOURNAL_CHUNK_MAX pointers; untouched pages of the array cost nothing
    uint32_t log_chunk       # the newest chunk of the log, or RECORD_UNNUMBERED
    uint32_t log_count       # records of it in use
    uint32_t *free_numbers   # dropped records of the log
    uint32_t free_count, free_room

# Maps the journal in `fd`, which the caller has locked. fresh: the file is empty and gets its header, for process `pid`
# that started at `start_time`. 0; -errno (-ENOSPC, -EFBIG: no space); -EBADMSG: no journal, or of another version.
cdef int journal_open(journal_t *journal, int fd, bint fresh, uint32_t pid, uint64_t start_time) noexcept nogil
cdef void journal_close(journal_t *journal) noexcept nogil

# Reserves space for a chunk of records, all void, and maps it. 0 or -errno; nothing has changed then.
cdef int journal_chunk_take(journal_t *journal, uint32_t *chunk) noexcept nogil

# Makes sure that `count` appends will find space. 0 or -errno.
cdef int journal_reserve(journal_t *journal, uint32_t count) noexcept nogil

# Appends to the log; the number names it for journal_drop. 0 or -errno. The generation is filled in.
cdef int journal_append(journal_t *journal, const journal_entry_t *record, uint32_t *number) noexcept nogil
cdef void journal_drop(journal_t *journal, uint32_t number) noexcept nogil

# The target has executed another program: all records are void.
cdef void journal_next_generation(journal_t *journal, uint64_t stack_vaddr) noexcept nogil

cdef inline journal_entry_t *journal_record(const journal_t *journal, uint32_t number) noexcept nogil:
    return &journal.chunks[number >> JOURNAL_CHUNK_SHIFT][number & ((1 << JOURNAL_CHUNK_SHIFT) - 1)]

# Fills in a record of a chunk that the caller owns. A whole one that was there is void in between.
cdef void record_write(journal_t *journal, journal_entry_t *there, const journal_entry_t *record) noexcept nogil

cdef class Journal:
    cdef journal_t journal
    cdef int need_open(self) except -1
    cdef object append(self, const journal_entry_t *record)
    cdef list select(self, int kind)
