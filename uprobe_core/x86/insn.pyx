"""The decoder for Python: Insn, decode, and decode_all for whole buffers."""

from collections import namedtuple

from cpython.bytearray cimport PyByteArray_AsString, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize, PyBytes_Size
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from uprobe_core.abi cimport *
from uprobe_core.status cimport *
from uprobe_core.x86.decode cimport (
    DECODE_32,
    DECODE_64,
    DECODE_AMD,
    DECODE_APX,
    DECODE_INTEL,
    insn_decode,
    insn_mnemonic,
)
from uprobe_core.x86.effects cimport insn_effects

cdef extern from "decode_options.h" nogil:
    uint32_t decode_host_vendor()

cdef uint32_t host_vendor = decode_host_vendor()

Offsets = namedtuple("Offsets", "opcode modrm sib disp imm")
Offsets.__doc__ = "Where the parts of an instruction begin, in bytes from its start; None where absent."

cdef tuple REGISTERS = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    "r16", "r17", "r18", "r19", "r20", "r21", "r22", "r23", "r24", "r25", "r26", "r27", "r28", "r29", "r30", "r31",
)
cdef tuple FLAGS = (
    ("cf", 0), ("pf", 2), ("af", 4), ("zf", 6), ("sf", 7), ("tf", 8), ("if", 9), ("df", 10), ("of", 11), ("nt", 14),
    ("ac", 18),
)
cdef tuple PREFIXES = (
    (PFX_66, "operand-size"), (PFX_67, "address-size"), (PFX_F2, "repne"), (PFX_F3, "rep"), (PFX_LOCK, "lock"),
    (PFX_SEGMENT, "segment"), (PFX_REX, "rex"),
)
cdef tuple SEGMENTS = (None, "es", "cs", "ss", "ds", "fs", "gs")
cdef tuple ENCODINGS = ("legacy", "rex2", "vex", "evex", "xop", "3dnow")
cdef tuple FLOWS = (
    "next", "jmp", "jcc", "loop", "call", "jmp-indirect", "call-indirect", "ret", "jmp-far", "call-far", "ret-far",
    "iret", "syscall", "sysret", "int", "xbegin", "xabort", "never",
)
cdef tuple STEPS = (
    "plain", "repeat", "shadow", "tf-out", "tf-in", "swallow", "syscall", "fault", "trap", "transaction",
)


def _failure(status, code, looked, address, bits):
    return ValueError(f"cannot decode {code.hex(' ')}: status {status}")


cdef object failure = _failure


def set_failure(make):
    """Sets what decode raises: make(status, code, looked, address, bits) returns the exception."""
    global failure
    failure = make


cdef frozenset register_names(uint32_t mask):
    return frozenset([REGISTERS[number] for number in range(32) if mask >> number & 1])


cdef frozenset flag_names(uint32_t mask):
    return frozenset([name for name, bit in FLAGS if mask >> <uint32_t>bit & 1])


cdef object present(uint32_t offset):
    return offset if offset else None


cdef class Insn:
    """One decoded instruction; immutable. Made by decode()."""

    def __init__(self):
        raise TypeError("an Insn is made by decode()")

    cdef effects_t effects(self):
        cdef effects_t result
        insn_effects(&self.insn, &result)
        return result

    @property
    def address(self):
        """Address that it was decoded at."""
        return self.ip

    @property
    def length(self):
        """Bytes, 1 to 15."""
        return self.insn.length

    @property
    def bytes(self):
        """The instruction's bytes."""
        return self.code

    @property
    def bits(self):
        """Mode: 64 or 32."""
        return self.insn.bits

    @property
    def vendor(self):
        """Whose processor decided: "amd" or "intel"."""
        return "amd" if self.options & DECODE_AMD else "intel"

    @property
    def mnemonic(self):
        """Name in lower case, as the manual has it."""
        return insn_mnemonic(&self.insn).decode("ascii")

    @property
    def encoding(self):
        """One of "legacy", "rex2", "vex", "evex", "xop", "3dnow"."""
        return ENCODINGS[self.insn.encoding]

    @property
    def map(self):
        """Number of the opcode map (enum insn_map): 0 one-byte, 1 0F, 2 0F38, 3 0F3A …"""
        return self.insn.map

    @property
    def opcode(self):
        """The opcode byte."""
        return self.insn.opcode

    @property
    def modrm(self):
        """The ModRM byte, or None."""
        return self.insn.modrm if self.insn.attrs & INSN_HAS_MODRM else None

    @property
    def prefixes(self):
        """Names of the prefixes present, with or without effect; "rex" only where it counts."""
        return tuple([name for bit, name in PREFIXES if self.insn.prefixes & <uint8_t>bit])

    @property
    def segment(self):
        """The segment override in effect, or None."""
        return SEGMENTS[self.insn.segment]

    @property
    def operand_size(self):
        """Effective operand size in bytes."""
        return self.insn.operand_size

    @property
    def address_size(self):
        """Effective address size in bytes."""
        return self.insn.address_size

    @property
    def immediate(self):
        """The first immediate, sign-extended as the instruction uses it, or None."""
        return self.insn.imm if self.insn.imm_size else None

    @property
    def displacement(self):
        """The displacement, scaled, or None."""
        return self.insn.disp if self.insn.disp_size else None

    @property
    def offsets(self):
        """Where opcode, ModRM, SIB, displacement and immediate begin; None where absent."""
        return Offsets(
            self.insn.opcode_off,
            present(self.insn.modrm_off),
            self.insn.modrm_off + 1 if self.insn.has_sib else None,
            present(self.insn.disp_off),
            present(self.insn.imm_off),
        )

    @property
    def target(self):
        """Address of a direct branch's target, or of a RIP-relative operand; else None."""
        if self.insn.attrs & INSN_RIP_RELATIVE or self.is_direct():
            return self.insn.target
        return None

    cdef bint is_direct(self):
        return self.insn.flow in (FLOW_JMP, FLOW_JCC, FLOW_LOOP, FLOW_CALL, FLOW_XBEGIN)

    @property
    def flow(self):
        """Where control goes: "next", "jmp", "jcc", "call", "ret", "syscall" … (enum insn_flow)."""
        return FLOWS[self.insn.flow]

    @property
    def step(self):
        """How single-stepping behaves: "plain", "repeat", "shadow" … (enum insn_step)."""
        return STEPS[self.insn.step]

    @property
    def is_branch(self):
        """Whether it may continue elsewhere than at the next instruction, by its own doing."""
        return FLOW_JMP <= self.insn.flow <= FLOW_IRET or self.insn.flow == FLOW_XBEGIN

    @property
    def is_system_call(self):
        """Whether it enters the kernel as a system call."""
        return self.insn.flow == FLOW_SYSCALL or self.insn.flow == FLOW_INT and self.insn.imm == 0x80

    @property
    def rip_relative(self):
        """Whether its memory operand is relative to the next instruction."""
        return (self.insn.attrs & INSN_RIP_RELATIVE) != 0

    @property
    def attributes(self):
        """enum insn_attr, as a mask."""
        return self.insn.attrs

    @property
    def privileged(self):
        """Whether it faults outside ring 0, or without I/O privilege."""
        return (self.insn.attrs & INSN_PRIVILEGED) != 0

    @property
    def serialising(self):
        """Whether it serialises execution."""
        return (self.insn.attrs & INSN_SERIALISING) != 0

    @property
    def memory_read(self):
        """Whether it reads memory through an operand."""
        return (self.insn.attrs & INSN_MEM_READ) != 0

    @property
    def memory_written(self):
        """Whether it writes memory through an operand."""
        return (self.insn.attrs & INSN_MEM_WRITE) != 0

    @property
    def uses_stack(self):
        """Whether it pushes or pops."""
        return (self.insn.attrs & INSN_STACK) != 0

    @property
    def may_fault(self):
        """Whether it may raise a fault in user mode."""
        return (self.insn.attrs & INSN_MAY_FAULT) != 0

    @property
    def locked(self):
        """Whether it is a locked read-modify-write."""
        return (self.insn.attrs & INSN_LOCKED) != 0

    @property
    def repeated(self):
        """Whether a prefix makes it repeat."""
        return (self.insn.attrs & INSN_REPEATED) != 0

    @property
    def reads(self):
        """Names of the general registers read, implicit ones and those of the address included."""
        return register_names(self.effects().reads)

    @property
    def writes(self):
        """Names of the general registers written, wholly or in part, perhaps conditionally."""
        return register_names(self.effects().writes)

    @property
    def kills(self):
        """Names of the general registers whose old value never matters."""
        return register_names(self.effects().kills)

    @property
    def flags_read(self):
        """Names of the flags read: "cf", "zf" …"""
        return flag_names(self.effects().flags_read)

    @property
    def flags_written(self):
        """Names of the flags set, cleared or left undefined."""
        return flag_names(self.effects().flags_written)

    @property
    def flags_undefined(self):
        """Names of the flags left undefined."""
        return flag_names(self.effects().flags_undefined)

    @property
    def masks(self):
        """reads, writes, kills (bit n is register n), flags read, written, undefined (EFLAGS bits)."""
        cdef effects_t effects = self.effects()
        return (
            effects.reads, effects.writes, effects.kills, effects.flags_read, effects.flags_written,
            effects.flags_undefined,
        )

    def __len__(self):
        return self.insn.length

    def __eq__(self, other):
        if not isinstance(other, Insn):
            return NotImplemented
        cdef Insn that = other
        return self.ip == that.ip and self.options == that.options and self.code == that.code

    def __hash__(self):
        return hash((self.ip, self.options, self.code))

    def __repr__(self):
        target = self.target
        where = "" if target is None else f" [{target:#x}]" if self.rip_relative else f" {target:#x}"
        return f"<Insn {self.ip:#x}: {self.code.hex(' ')}  {self.mnemonic}{where}>"


cdef uint32_t decode_options(object bits, object vendor, object apx) except 0:
    cdef uint32_t options
    if bits == 64:
        options = DECODE_64 | (DECODE_APX if apx else 0)
    elif bits == 32:
        options = DECODE_32
    else:
        raise failure("bits", bits, 0, 0, 0)
    if vendor is None:
        return options | host_vendor
    if vendor == "amd":
        return options | DECODE_AMD
    if vendor == "intel":
        return options | DECODE_INTEL
    raise failure("vendor", vendor, 0, 0, 0)


cdef uint64_t decode_address(object address) except? 0xdead:
    try:
        return address
    except (OverflowError, TypeError):
        raise failure("address", address, 0, 0, 0) from None


cdef const uint8_t[::1] bytes_view(object code):
    try:
        if code is not None:
            return code
    except (TypeError, ValueError, BufferError):
        pass
    raise failure("bytes", code, 0, 0, 0)


def decode(code, address=0, bits=64, vendor=None, apx=False):
    """Decodes the instruction at the start of `code`, which lies at `address`.

    code: bytes, or anything with a buffer of bytes; what follows the instruction is not looked at.
    bits: 64 or 32, the mode. vendor: "amd" or "intel", the processor that decides; None: this one. apx: whether it has
    Intel's APX, in 64-bit mode.
    Raises DecodeError where the processor would raise #UD, or #GP for more than 15 bytes, or would need more bytes.
    """
    cdef uint32_t options = DECODE_64 | host_vendor
    cdef const uint8_t *start
    cdef const uint8_t[::1] view
    cdef size_t size
    cdef uint64_t ip = 0 if address is 0 else decode_address(address)
    cdef Insn result = Insn.__new__(Insn)
    cdef int status
    if bits is not 64 or vendor is not None or apx is not False:
        options = decode_options(bits, vendor, apx)
    if type(code) is bytes:
        start = <const uint8_t *>PyBytes_AsString(code)
        size = <size_t>PyBytes_Size(code)
    else:
        view = bytes_view(code)
        size = <size_t>view.shape[0]
        start = &view[0] if size else NULL
    status = insn_decode(start, size, ip, options, &result.insn)
    if status:
        size = min(size, <size_t>16)
        raise failure(status, PyBytes_FromStringAndSize(<const char *>start, <Py_ssize_t>size), result.insn.length,
                      address, bits)
    result.ip = ip
    result.options = options
    result.code = code if size == <size_t>result.insn.length and type(code) is bytes else PyBytes_FromStringAndSize(
        <const char *>start, result.insn.length)
    return result


cdef class Listing:
    """The instructions of a buffer, one after another, as columns: memoryviews of equal length.

    addresses (Q), lengths (B: bytes; 1 where the bytes are no instruction), statuses (B: enum status; 0 is an
    instruction), attributes (I: enum insn_attr), flows (B), steps (B), rows (H), targets (Q). With effects also reads,
    writes, kills (I: register masks), flags_read and flags_written (I: EFLAGS bits); else None.
    numpy.asarray(column) takes one without a copy.
    """

    cdef readonly object addresses, lengths, statuses, attributes, flows, steps, rows, targets
    cdef readonly object reads, writes, kills, flags_read, flags_written

    def __len__(self):
        return len(self.lengths)

    def __repr__(self):
        bad = sum(1 for status in self.statuses if status)
        return f"<Listing of {len(self)} instructions, {bad} of them invalid>"


DEF COLUMNS = 13
# In the order of Listing's attributes; the last five are the effects.
cdef size_t[COLUMNS] WIDTHS = [8, 1, 1, 4, 1, 1, 2, 8, 4, 4, 4, 4, 4]
cdef tuple FORMATS = ("Q", "B", "B", "I", "B", "B", "H", "Q", "I", "I", "I", "I", "I")


cdef size_t sweep(const uint8_t *code, size_t size, size_t *position, uint64_t ip, uint32_t options, char **columns,
                  size_t first, size_t capacity, bint effects) noexcept nogil:
    """Decodes from position until the end or until the columns are full. Returns the number of instructions so far."""
    cdef size_t at = position[0], count = first
    cdef insn_t insn
    cdef effects_t touched
    cdef int status
    while at < size and count < capacity:
        status = insn_decode(code + at, size - at, ip + at, options, &insn)
        if status:
            insn.length = 1
            insn.attrs = 0
            insn.flow = FLOW_NEXT
            insn.step = STEP_PLAIN
            insn.row = 0
            insn.form = 0
            insn.target = 0
        (<uint64_t *>columns[0])[count] = ip + at
        (<uint8_t *>columns[1])[count] = insn.length
        (<uint8_t *>columns[2])[count] = <uint8_t>status
        (<uint32_t *>columns[3])[count] = insn.attrs
        (<uint8_t *>columns[4])[count] = insn.flow
        (<uint8_t *>columns[5])[count] = insn.step
        (<uint16_t *>columns[6])[count] = insn.row
        (<uint64_t *>columns[7])[count] = insn.target
        if effects:
            insn_effects(&insn, &touched)
            (<uint32_t *>columns[8])[count] = touched.reads
            (<uint32_t *>columns[9])[count] = touched.writes
            (<uint32_t *>columns[10])[count] = touched.kills
            (<uint32_t *>columns[11])[count] = touched.flags_read
            (<uint32_t *>columns[12])[count] = touched.flags_written
        at += insn.length
        count += 1
    position[0] = at
    return count


def decode_all(buffer, address=0, bits=64, vendor=None, effects=False, apx=False):
    """Decodes a buffer from its start to its end, one instruction after another; returns a Listing.

    Bytes that are no instruction get a row with their status and length 1, and decoding goes on after the first of
    them. Raises DecodeError for arguments that make no sense. address, bits, vendor, apx: as in decode().
    """
    cdef uint32_t options = decode_options(bits, vendor, apx)
    cdef uint64_t ip = decode_address(address)
    cdef const uint8_t[::1] view
    cdef size_t size, position = 0, count = 0, capacity, column, width
    cdef const uint8_t *start
    cdef char *columns[COLUMNS]
    cdef bint wanted = effects
    view = bytes_view(buffer)
    size = <size_t>view.shape[0]
    start = &view[0] if size else NULL
    capacity = size // 3 + 16
    width = COLUMNS if wanted else COLUMNS - 5
    storage = [bytearray() for _ in range(width)]
    while True:
        for column in range(width):
            PyByteArray_Resize(storage[column], <Py_ssize_t>(capacity * WIDTHS[column]))
            columns[column] = PyByteArray_AsString(storage[column])
        with nogil:
            count = sweep(start, size, &position, ip, options, columns, count, capacity, wanted)
        if position == size:
            break
        capacity += capacity // 2
    for column in range(width):
        PyByteArray_Resize(storage[column], <Py_ssize_t>(count * WIDTHS[column]))
    views = [memoryview(data).cast(format) for data, format in zip(storage, FORMATS)]
    cdef Listing result = Listing.__new__(Listing)
    (result.addresses, result.lengths, result.statuses, result.attributes, result.flows, result.steps, result.rows,
     result.targets) = views[:8]
    if wanted:
        result.reads, result.writes, result.kills, result.flags_read, result.flags_written = views[8:]
    return result
