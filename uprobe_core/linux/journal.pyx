"""The journal: see journal.pxd."""

import os

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport EBADMSG, ENOMEM, errno
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset
from posix.fcntl cimport posix_fallocate
from posix.mman cimport MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap
from posix.types cimport off_t
from posix.unistd cimport getpid


cdef off_t chunk_off(uint32_t chunk) noexcept nogil:
    return <off_t>JOURNAL_HEAD_BYTES + <off_t>chunk * <off_t>JOURNAL_CHUNK_BYTES


cdef int file_map(int fd, off_t off, size_t size, void **memory) noexcept nogil:
    memory[0] = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, off)
    return -errno if memory[0] == MAP_FAILED else 0


cdef int head_make(journal_t *journal, uint32_t pid, uint64_t start_time) noexcept nogil:
    cdef int status = -posix_fallocate(journal.fd, 0, JOURNAL_HEAD_BYTES)
    if status == 0:
        status = file_map(journal.fd, 0, JOURNAL_HEAD_BYTES, <void **>&journal.head)
    if status < 0:
        return status
    journal.head.version = JOURNAL_VERSION
    journal.head.pid = pid
    journal.head.start_time = start_time
    journal.head.generation = 1
    journal.head.tracer_pid = <uint32_t>getpid()
    journal.head.magic = JOURNAL_MAGIC
    return 0


cdef int chunks_map(journal_t *journal, uint64_t size) noexcept nogil:
    """Maps what a journal found has. Its length is the file's: the header's count may be one behind."""
    cdef uint64_t count = (size - JOURNAL_HEAD_BYTES) // JOURNAL_CHUNK_BYTES
    cdef uint32_t chunk
    cdef int status
    if count > JOURNAL_CHUNK_MAX:
        return -EBADMSG
    for chunk in range(<uint32_t>count):
        status = file_map(journal.fd, chunk_off(chunk), JOURNAL_CHUNK_BYTES, <void **>&journal.chunks[chunk])
        if status < 0:
            journal.chunks[chunk] = NULL
            return status
        journal.head.chunks = chunk + 1
    return 0


cdef extern from "<unistd.h>" nogil:
    off_t lseek(int fd, off_t off, int whence)
    const int SEEK_END


cdef int head_find(journal_t *journal) noexcept nogil:
    cdef off_t size = lseek(journal.fd, 0, SEEK_END)
    cdef int status
    if size < <off_t>JOURNAL_HEAD_BYTES:
        return -EBADMSG
    status = file_map(journal.fd, 0, JOURNAL_HEAD_BYTES, <void **>&journal.head)
    if status < 0:
        return status
    if journal.head.magic != JOURNAL_MAGIC or journal.head.version != JOURNAL_VERSION:
        return -EBADMSG
    return chunks_map(journal, size)


cdef int journal_open(journal_t *journal, int fd, bint fresh, uint32_t pid, uint64_t start_time) noexcept nogil:
    cdef int status
    memset(journal, 0, sizeof(journal_t))
    journal.fd = fd
    journal.log_chunk = RECORD_UNNUMBERED
    journal.chunks = <journal_entry_t **>calloc(JOURNAL_CHUNK_MAX, sizeof(journal_entry_t *))
    if journal.chunks == NULL:
        return -ENOMEM
    status = head_make(journal, pid, start_time) if fresh else head_find(journal)
    if status < 0:
        journal_close(journal)
    return status


cdef void journal_close(journal_t *journal) noexcept nogil:
    cdef uint32_t chunk
    if journal.chunks != NULL:
        for chunk in range(<uint32_t>JOURNAL_CHUNK_MAX):
            if journal.chunks[chunk] == NULL:
                break
            munmap(journal.chunks[chunk], JOURNAL_CHUNK_BYTES)
    if journal.head != NULL and journal.head != <journal_head_t *>MAP_FAILED:
        munmap(journal.head, JOURNAL_HEAD_BYTES)
    free(journal.chunks)
    free(journal.free_numbers)
    memset(journal, 0, sizeof(journal_t))
    journal.fd = -1


cdef int journal_chunk_take(journal_t *journal, uint32_t *chunk) noexcept nogil:
    cdef uint32_t number = journal.head.chunks
    cdef int status
    if number == JOURNAL_CHUNK_MAX:
        return -ENOMEM
    # A store into a page that the disk has no room for would be a SIGBUS.
    status = -posix_fallocate(journal.fd, chunk_off(number), JOURNAL_CHUNK_BYTES)
    if status == 0:
        status = file_map(journal.fd, chunk_off(number), JOURNAL_CHUNK_BYTES, <void **>&journal.chunks[number])
    if status < 0:
        journal.chunks[number] = NULL
        return status
    journal.head.chunks = number + 1
    chunk[0] = number
    return 0


cdef int log_grow(journal_t *journal) noexcept nogil:
    cdef uint32_t chunk
    cdef int status = journal_chunk_take(journal, &chunk)
    if status == 0:
        journal.log_chunk = chunk
        journal.log_count = 0
    return status


cdef int journal_reserve(journal_t *journal, uint32_t count) noexcept nogil:
    if journal.log_chunk != RECORD_UNNUMBERED and journal.log_count + count <= JOURNAL_CHUNK_RECORDS:
        return 0
    return log_grow(journal)


cdef void record_write(journal_t *journal, journal_entry_t *there, const journal_entry_t *record) noexcept nogil:
    record_publish(there, RECORD_NONE)
    memcpy(<uint8_t *>there + 1, <const uint8_t *>record + 1, sizeof(journal_entry_t) - 1)
    there.generation = journal.head.generation
    record_publish(there, record.kind)


cdef int journal_append(journal_t *journal, const journal_entry_t *record, uint32_t *number) noexcept nogil:
    cdef int status
    if journal.free_count:
        journal.free_count -= 1
        number[0] = journal.free_numbers[journal.free_count]
    else:
        if journal.log_chunk == RECORD_UNNUMBERED or journal.log_count == JOURNAL_CHUNK_RECORDS:
            status = log_grow(journal)
            if status < 0:
                return status
        number[0] = journal.log_chunk << JOURNAL_CHUNK_SHIFT | journal.log_count
        journal.log_count += 1
    record_write(journal, journal_record(journal, number[0]), record)
    return 0


cdef void journal_drop(journal_t *journal, uint32_t number) noexcept nogil:
    cdef void *grown
    record_publish(journal_record(journal, number), RECORD_NONE)
    if journal.free_count == journal.free_room:
        grown = realloc(journal.free_numbers, (journal.free_room * 2 + 64) * sizeof(uint32_t))
        if grown == NULL:
            return  # its space is not used again, that is all
        journal.free_numbers = <uint32_t *>grown
        journal.free_room = journal.free_room * 2 + 64
    journal.free_numbers[journal.free_count] = number
    journal.free_count += 1


cdef void journal_next_generation(journal_t *journal, uint64_t stack_vaddr) noexcept nogil:
    journal.head.stack_vaddr = stack_vaddr
    journal.head.generation += 1


cdef class Journal:
    """The journal of one target, in the file `fd`, which the object closes.

    pid, start_time: of the target; None: the file has a journal, whose target is told by the properties. OSError, with
    EBADMSG where the file holds no journal.
    """

    def __cinit__(self, int fd, pid=None, start_time=0):
        cdef uint32_t number = pid or 0
        cdef uint64_t ticks = start_time
        cdef bint fresh = pid is not None
        cdef int status
        with nogil:
            status = journal_open(&self.journal, fd, fresh, number, ticks)
        if status < 0:
            raise OSError(-status, f"journal: {os.strerror(-status)}")

    def close(self):
        """Unmap it and close its file; twice is once."""
        cdef int fd = self.journal.fd
        if fd >= 0:
            journal_close(&self.journal)
            os.close(fd)

    def __dealloc__(self):
        journal_close(&self.journal)

    cdef int need_open(self) except -1:
        if self.journal.fd < 0:
            raise ValueError("journal: it is closed")
        return 0

    @property
    def pid(self):
        """The target's."""
        self.need_open()
        return self.journal.head.pid

    @property
    def start_time(self):
        """When the target started, in clock ticks since boot."""
        self.need_open()
        return self.journal.head.start_time

    @property
    def stack_vaddr(self):
        """Where the target's stack began; 0: not told."""
        self.need_open()
        return self.journal.head.stack_vaddr

    @stack_vaddr.setter
    def stack_vaddr(self, uint64_t value):
        self.need_open()
        self.journal.head.stack_vaddr = value

    @property
    def tracer_pid(self):
        """Who wrote it last."""
        self.need_open()
        return self.journal.head.tracer_pid

    @property
    def kept(self):
        """Whether the patches were left in place on purpose."""
        self.need_open()
        return self.journal.head.kept != 0

    @kept.setter
    def kept(self, bint value):
        self.need_open()
        self.journal.head.kept = value

    @property
    def generation(self):
        """Counts the programs that the target has executed."""
        self.need_open()
        return self.journal.head.generation

    def take_over(self):
        """We write it from now on."""
        self.need_open()
        self.journal.head.tracer_pid = <uint32_t>getpid()

    def next_generation(self, uint64_t stack_vaddr):
        """The target has executed another program: all records are void."""
        self.need_open()
        journal_next_generation(&self.journal, stack_vaddr)

    def reserve(self, uint32_t count):
        """Make sure that `count` appends will find space. OSError: ENOSPC, EFBIG, EDQUOT."""
        cdef int status
        self.need_open()
        with nogil:
            status = journal_reserve(&self.journal, count)
        if status < 0:
            raise OSError(-status, f"journal: {os.strerror(-status)}")

    cdef object append(self, const journal_entry_t *record):
        cdef uint32_t number
        self.need_open()
        cdef int status = journal_append(&self.journal, record, &number)
        if status < 0:
            raise OSError(-status, f"journal: {os.strerror(-status)}")
        return number

    def append_patch(self, uint64_t vaddr, bytes original, bytes patched, uint64_t place_vaddr=0, int flags=0):
        """Before `patched` replaces `original` at vaddr (1 to 16 bytes). The record's number, for drop()."""
        cdef journal_entry_t record
        if not 1 <= len(patched) <= JOURNAL_PATCH_MAX or not len(patched) <= len(original) <= JOURNAL_PATCH_MAX:
            raise ValueError(f"journal: a patch of {len(patched)} over {len(original)} bytes")
        memset(&record, 0, sizeof(journal_entry_t))
        record.kind = RECORD_PATCH
        record.flags = <uint8_t>flags
        record.length = <uint8_t>len(patched)
        record.insn_length = <uint8_t>len(original)
        record.vaddr = vaddr
        record.place_vaddr = place_vaddr
        memcpy(record.original, <const char *>original, len(original))
        memcpy(record.patched, <const char *>patched, len(patched))
        return self.append(&record)

    def append_area(self, uint64_t vaddr, uint64_t size, int kind, bint sealed):
        """A mapping of ours (enum area_kind): before it is made where its address is known, else right after. The
        record's number, for drop()."""
        cdef journal_entry_t record
        memset(&record, 0, sizeof(journal_entry_t))
        record.kind = RECORD_AREA
        record.flags = RECORD_SEALED if sealed else 0
        record.plan = <uint8_t>kind
        record.vaddr = vaddr
        record.place_vaddr = size
        return self.append(&record)

    def append_signal(self, bytes action):
        """Before the disposition of SIGTRAP is changed: the 32 bytes of the kernel's struct sigaction as it was."""
        cdef journal_entry_t record
        if len(action) != 32:
            raise ValueError(f"journal: a disposition of {len(action)} bytes")
        memset(&record, 0, sizeof(journal_entry_t))
        record.kind = RECORD_SIGNAL
        memcpy(record.original, <const char *>action, 16)
        memcpy(record.patched, <const char *>action + 16, 16)
        return self.append(&record)

    def drop(self, uint32_t number):
        """What record `number` of the log speaks of is out of the target."""
        self.need_open()
        journal_drop(&self.journal, number)

    cdef list select(self, int kind):
        """The numbers of all records of a kind that are not void."""
        cdef uint32_t chunk, index
        cdef journal_entry_t *record
        self.need_open()
        found = []
        for chunk in range(self.journal.head.chunks):
            for index in range(JOURNAL_CHUNK_RECORDS):
                record = &self.journal.chunks[chunk][index]
                if record.kind == kind and record.generation == self.journal.head.generation:
                    found.append(chunk << JOURNAL_CHUNK_SHIFT | index)
        return found

    def patches(self):
        """(vaddr, original, patched, place_vaddr, flags, plan byte, operand bits) of each patch."""
        cdef journal_entry_t *record
        found = []
        for number in self.select(RECORD_PATCH):
            record = journal_record(&self.journal, number)
            length = min(record.length, JOURNAL_PATCH_MAX)
            whole = min(max(record.length, record.insn_length), JOURNAL_PATCH_MAX)
            found.append((record.vaddr, PyBytes_FromStringAndSize(<char *>record.original, whole),
                          PyBytes_FromStringAndSize(<char *>record.patched, length), record.place_vaddr, record.flags,
                          record.plan, record.operand))
        return found

    def areas(self):
        """(vaddr, bytes, enum area_kind, whether it is sealed) of each mapping."""
        cdef journal_entry_t *record
        found = []
        for number in self.select(RECORD_AREA):
            record = journal_record(&self.journal, number)
            found.append((record.vaddr, record.place_vaddr, record.plan, bool(record.flags & RECORD_SEALED)))
        return found

    def signals(self):
        """The disposition of SIGTRAP that was there before ours, 32 bytes, or None."""
        cdef journal_entry_t *record
        for number in self.select(RECORD_SIGNAL):
            record = journal_record(&self.journal, number)
            return (PyBytes_FromStringAndSize(<char *>record.original, 16)
                    + PyBytes_FromStringAndSize(<char *>record.patched, 16))
        return None


def fill(Journal journal, uint32_t count):
    """Take chunks for `count` patches and fill all of them in native code; for benchmarks."""
    cdef journal_entry_t record
    cdef uint32_t chunk, i
    cdef int status = 0
    memset(&record, 0, sizeof(journal_entry_t))
    record.kind = RECORD_PATCH
    record.length = record.insn_length = 1
    with nogil:
        for i in range(count):
            if i % JOURNAL_CHUNK_RECORDS == 0:
                status = journal_chunk_take(&journal.journal, &chunk)
                if status < 0:
                    break
            record.vaddr = i
            record_write(&journal.journal, &journal.journal.chunks[chunk][i % JOURNAL_CHUNK_RECORDS], &record)
    if status < 0:
        raise OSError(-status, f"journal: {os.strerror(-status)}")
