"""Where control may come into a text: every possible branch target."""

from cpython.bytearray cimport PyByteArray_AsString
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from array import array

from uprobe_core.abi cimport (
    FLOW_CALL,
    FLOW_CALL_FAR,
    FLOW_CALL_INDIRECT,
    FLOW_INT,
    FLOW_JCC,
    FLOW_JMP,
    FLOW_JMP_INDIRECT,
    FLOW_LOOP,
    FLOW_NEXT,
    FLOW_SYSCALL,
    FLOW_XBEGIN,
    INSN_ADDRESS_ONLY,
    INSN_RIP_RELATIVE,
    insn_t,
)
from uprobe_core.x86.decode cimport DECODE_64, insn_decode
from uprobe_core.x86.marks cimport bit_clear, bit_next, bit_set, bit_test

cdef extern from "decode_options.h" nogil:
    uint32_t decode_host_vendor()


cdef inline void target_mark(const text_t *text, uint64_t vaddr, bint entered) noexcept nogil:
    cdef uint64_t place = vaddr - text.vaddr
    if place < text.size:
        bit_set(text.targets, place)
        if entered:
            bit_set(text.entered, place)


cdef inline void reference_mark(const image_t *image, uint64_t vaddr, bint taken) noexcept nogil:
    cdef uint64_t place = vaddr - image.vaddr
    if place < image.size:
        bit_set(image.referenced, place)
        if taken:
            bit_set(image.taken, place)


cdef void address_mark(const text_t *text, const image_t *image, uint64_t vaddr) noexcept nogil:
    """An address that the code computes: jumped to, or added to what is in a table there."""
    target_mark(text, vaddr, True)
    reference_mark(image, vaddr, True)


cdef void operands_mark(const text_t *text, const image_t *image, const insn_t *insn) noexcept nogil:
    if insn.attrs & INSN_RIP_RELATIVE:
        if insn.attrs & INSN_ADDRESS_ONLY:
            address_mark(text, image, insn.target)
        else:
            reference_mark(image, insn.target, False)
    elif image.absolute and insn.disp_size == 4:
        address_mark(text, image, <uint64_t><int64_t>insn.disp)
    if image.absolute and insn.imm_size >= 4:
        address_mark(text, image, <uint64_t>insn.imm)


cdef inline void flow_mark(const text_t *text, const insn_t *insn, size_t next_place) noexcept nogil:
    if insn.flow in (FLOW_JMP, FLOW_JCC, FLOW_LOOP, FLOW_CALL, FLOW_XBEGIN):
        target_mark(text, insn.target, insn.flow == FLOW_CALL)
    if insn.flow in (FLOW_CALL, FLOW_CALL_INDIRECT, FLOW_CALL_FAR, FLOW_SYSCALL, FLOW_INT):
        target_mark(text, text.vaddr + next_place, False)


cdef size_t targets_sweep(const text_t *text, const image_t *image, size_t start, size_t end,
                          uint32_t options) noexcept nogil:
    cdef insn_t insn
    cdef size_t at = start
    while at < end:
        if insn_decode(text.code + at, text.size - at, text.vaddr + at, options, &insn) or at + insn.length > end:
            break
        bit_set(text.insns, at)
        if insn.flow != FLOW_NEXT:
            if insn.flow == FLOW_JMP_INDIRECT:
                bit_set(text.jumps, at)
            flow_mark(text, &insn, at + insn.length)
        if insn.attrs & INSN_RIP_RELATIVE or image.absolute:
            operands_mark(text, image, &insn)
        at += insn.length
    return at


cdef void targets_sweep_unknown(const text_t *text, const image_t *image, size_t start, size_t end,
                                uint32_t options) noexcept nogil:
    cdef insn_t insn
    cdef size_t at
    for at in range(start, end):
        if insn_decode(text.code + at, text.size - at, text.vaddr + at, options, &insn):
            continue
        # what follows a call in here is not asked: it is in no window anyway, nor is what follows these bytes
        if insn.flow in (FLOW_JMP, FLOW_JCC, FLOW_LOOP, FLOW_CALL, FLOW_XBEGIN):
            target_mark(text, insn.target, False)
        elif insn.attrs & INSN_RIP_RELATIVE and insn.attrs & INSN_ADDRESS_ONLY:
            address_mark(text, image, insn.target)


cdef class Text:
    """The executable part of a file with what is known of it. Filled by the methods in the order in which they stand.

    Addresses are the file's own.
    """

    def __cinit__(self, image: bytearray, image_vaddr: int, text_vaddr: int, text_size: int, *,
                  absolute: bool = False):
        """image: all that the file loads, from `image_vaddr` on, the text in it. It must not be resized.

        absolute: whether the file is loaded at its own addresses.
        """
        cdef size_t size = len(image)
        cdef size_t start = <size_t>(<uint64_t>text_vaddr - <uint64_t>image_vaddr)
        if text_vaddr < image_vaddr or start > size or <size_t>text_size > size - start:
            raise ValueError(f"the text at {text_vaddr:#x} ({text_size} bytes) is not in the image")
        self.content = memoryview(image)  # while it is viewed it cannot be resized
        self.image.bytes = <const uint8_t *>PyByteArray_AsString(image)
        self.image.size = size
        self.image.vaddr = image_vaddr
        self.image.absolute = absolute
        self.text.code = self.image.bytes + start
        self.text.size = text_size
        self.text.vaddr = text_vaddr
        self.options = DECODE_64 | decode_host_vendor()
        self.maps = [bytearray((text_size + 7) // 8) for _ in range(5)] + [bytearray((size + 7) // 8) for _ in range(3)]
        self.text.insns = <uint8_t *>PyByteArray_AsString(self.maps[0])
        self.text.targets = <uint8_t *>PyByteArray_AsString(self.maps[1])
        self.text.entered = <uint8_t *>PyByteArray_AsString(self.maps[2])
        self.text.jumps = <uint8_t *>PyByteArray_AsString(self.maps[3])
        self.text.opened = <uint8_t *>PyByteArray_AsString(self.maps[4])
        self.image.referenced = <uint8_t *>PyByteArray_AsString(self.maps[5])
        self.image.taken = <uint8_t *>PyByteArray_AsString(self.maps[6])
        self.image.tables = <uint8_t *>PyByteArray_AsString(self.maps[7])

    @property
    def vaddr(self) -> int:
        """Address of the first byte."""
        return self.text.vaddr

    @property
    def size(self) -> int:
        """Bytes."""
        return self.text.size

    def sweep(self, starts: array, ends: array) -> None:
        """Decode everything. starts, ends ("Q"): of the known functions, by rising start; they may overlap.

        Each start begins an instruction and is entered from elsewhere. What is in no function is looked at as well.
        """
        cdef const uint64_t[::1] firsts = starts
        cdef const uint64_t[::1] lasts = ends
        cdef size_t count = firsts.shape[0], index
        cdef size_t reached = 0, covered = 0, start, end
        with nogil:
            for index in range(count):
                if not text_holds(&self.text, firsts[index]):
                    continue
                start = firsts[index] - self.text.vaddr
                covered = max(covered, min(lasts[index] - self.text.vaddr, self.text.size))
                end = covered
                if index + 1 < count and firsts[index + 1] - self.text.vaddr < end:
                    end = firsts[index + 1] - self.text.vaddr
                targets_sweep_unknown(&self.text, &self.image, reached, start, self.options)
                bit_set(self.text.targets, start)
                reached = max(reached, targets_sweep(&self.text, &self.image, start, end, self.options))
            targets_sweep_unknown(&self.text, &self.image, reached, self.text.size, self.options)

    def mark(self, const uint8_t[::1] values not None, stride: int = 8, offset: int = 0, *,
             entered: bool = True) -> None:
        """Control may come to the addresses that stand in a table: 8 bytes each, `offset` into every `stride`.

        entered: what has the address may call it.
        """
        cdef size_t step = stride, place = offset, size = values.shape[0]
        cdef uint64_t vaddr = 0
        cdef bint called = entered
        if step == 0:
            raise ValueError("the stride is 0")
        with nogil:
            while place + 8 <= size:
                memcpy(&vaddr, &values[place], 8)
                target_mark(&self.text, vaddr, called)
                place += step

    def forbid(self, start: int, end: int) -> None:
        """No window may have a byte of the instructions from `start` to before `end`."""
        cdef size_t first = max(0, start - <object>self.text.vaddr)
        cdef size_t last = min(self.text.size, max(0, end - <object>self.text.vaddr)), at = first
        while (at := bit_next(self.text.insns, at, last)) < last:
            bit_clear(self.text.insns, at)
        if first < last:  # what runs into them, and what follows
            target_mark(&self.text, start, False)
            target_mark(&self.text, end, False)

    def open(self, start: int, end: int) -> None:
        """Control may come to every instruction from `start` to before `end`."""
        cdef size_t first = max(0, start - <object>self.text.vaddr)
        cdef size_t last = min(self.text.size, max(0, end - <object>self.text.vaddr)), at = first
        while (at := bit_next(self.text.insns, at, last)) < last:
            bit_set(self.text.targets, at)
            bit_set(self.text.opened, at)
            at += 1

    def indirect_jumps(self, start: int = 0, end: int = 2**64 - 1) -> array:
        """Where the indirect jumps of known functions are, from `start` to before `end`: "Q", rising."""
        return addresses(&self.text, self.text.jumps, start, end)

    def is_target(self, vaddr: int) -> bool:
        """Whether control may come to an address other than from the instruction before."""
        return text_holds(&self.text, vaddr) and bit_test(self.text.targets, vaddr - self.text.vaddr)

    def is_entered(self, vaddr: int) -> bool:
        """Whether something calls an address, or has it to call."""
        return text_holds(&self.text, vaddr) and bit_test(self.text.entered, vaddr - self.text.vaddr)

    def is_instruction(self, vaddr: int) -> bool:
        """Whether an instruction of a known function begins at an address."""
        return text_holds(&self.text, vaddr) and bit_test(self.text.insns, vaddr - self.text.vaddr)

    def instructions(self, start: int = 0, end: int = 2**64 - 1) -> array:
        """Where the instructions of known functions begin, from `start` to before `end`: "Q", rising."""
        return addresses(&self.text, self.text.insns, start, end)

    def targets(self, start: int = 0, end: int = 2**64 - 1) -> array:
        """Where control may come in, from `start` to before `end`: "Q", rising."""
        return addresses(&self.text, self.text.targets, start, end)

    def __repr__(self) -> str:
        return f"<Text {self.text.vaddr:#x}, {self.text.size} bytes>"


cdef inline bint text_holds(const text_t *text, uint64_t vaddr) noexcept nogil:
    return vaddr - text.vaddr < text.size


cdef object addresses(const text_t *text, const uint8_t *bits, object first_vaddr, object end_vaddr):
    cdef size_t place = max(0, first_vaddr - <object>text.vaddr), end = min(text.size, max(0, end_vaddr - <object>text.vaddr))
    cdef size_t count = 0, at = place
    cdef uint64_t[::1] view
    while (at := bit_next(bits, at, end)) < end:
        count += 1
        at += 1
    found = array("Q", bytes(8 * count))
    if count:
        view = found
        count = 0
        while (place := bit_next(bits, place, end)) < end:
            view[count] = text.vaddr + place
            count += 1
            place += 1
    return found
