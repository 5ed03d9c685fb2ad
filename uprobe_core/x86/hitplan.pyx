"""What is done at a hit, as an object: put together in Python, handed to whoever writes code for a site or serves it."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from uprobe_core.abi cimport (
    FIELD_REGISTER, FIELD_STACK, HIT_COUNT, HIT_FIELDS_MAX, HIT_RECORD, HIT_STACK_MAX, OP_CODES, PREDICATE_OPS_MAX,
    RING_HEADER, RING_STEP, hit_sections_t, hitplace_t, record_t, regs_t,
)
from uprobe_core.status cimport STATUS_OK
from uprobe_core.x86.emit cimport emit_begin, emit_bytes, emit_fits, emitter_t
from uprobe_core.x86.hitcode cimport hitcode_emit, hitcode_tail
from uprobe_core.x86.predicate cimport hitcode_stack_words, predicate_holds

cdef enum:
    CODE_MAX = 4096  # more than the largest that there is
    STACK_WORDS = 256  # HIT_STACK_MAX, as the length of an array
    STRIDE_SHIFT_MIN = 6
    STRIDE_SHIFT_MAX = 31


cdef class HitPlan:
    """Counts in, or records to, a board: the same place in the stride of every processor.

    board: its number, by which the gate page has its address; shift: log2 of the bytes of a stride; offset: of the
    counter or ring in the stride; order: log2 of the ring's records, None: counts; site: the number that records carry;
    fields: (kind, number) each, enum hit_field_kind and a register's number or a word of the stack; ops: a compiled
    predicate, (code, value) each; every: records one hit in so many; budget: offset in the first stride of the number
    of hits that are still let through, 0: no end. ValueError where a number is out of its range.
    """

    def __init__(self, *, board: int = 0, shift: int, offset: int = 0, order: int | None = None, site: int = 0,
                 fields=(), ops=(), every: int = 1, budget: int = 0):
        cdef uint64_t size
        memset(&self.code, 0, sizeof(self.code))
        require("stride", STRIDE_SHIFT_MIN, shift, STRIDE_SHIFT_MAX)
        require("board", 0, board, 0xFFFF)
        require("site", 0, site, 0x7FFFFFFF)
        require("every", 1, every, RING_STEP - 1)
        require("fields", 0, len(fields), HIT_FIELDS_MAX)
        require("predicate length", 0, len(ops), PREDICATE_OPS_MAX)
        if order is None and (fields or every > 1):
            raise ValueError("fields and sampling are for records, not for counts")
        size = 8
        if order is not None:
            require("order", 1, order, 24)
            size = RING_HEADER + ((<uint64_t>sizeof(record_t) + 8 * len(fields)) << <int>order)
        for what, at, end in (("offset", offset, offset + size), ("budget", budget, budget + 8)):
            if at < 0 or at % 8 or end > 1 << shift:
                raise ValueError(f"{what} {at}: must be a multiple of 8, and end within a stride of {1 << shift} bytes")
        self.code.action = HIT_COUNT if order is None else HIT_RECORD
        self.code.board = board
        self.code.shift = shift
        self.code.offset = offset
        self.code.order = order or 0
        self.code.site = site
        self.code.every = every
        self.code.budget = budget
        for kind, number in fields:
            require("field", FIELD_REGISTER, kind, FIELD_STACK)
            require("field", 0, number, 15 if kind == FIELD_REGISTER else HIT_STACK_MAX - 1)
            self.code.fields[self.code.field_count].kind = kind
            if kind == FIELD_REGISTER:
                self.code.fields[self.code.field_count].number = number
            else:
                self.code.fields[self.code.field_count].word = number
            self.code.field_count += 1
        for code, value in ops:
            require("predicate code", 0, code, OP_CODES - 1)
            self.code.ops[self.code.op_count].code = code
            self.code.ops[self.code.op_count].value = value
            self.code.op_count += 1

    @property
    def raw(self):
        """The plan as bytes, for `from_raw()` of the same version."""
        return (<const char *>&self.code)[:sizeof(hitcode_t)]

    @staticmethod
    def from_raw(bytes raw not None):
        """The plan that `raw` is of. ValueError: of none."""
        cdef HitPlan plan = HitPlan.__new__(HitPlan)
        if len(raw) != sizeof(hitcode_t):
            raise ValueError(f"a plan of {len(raw)} bytes")
        memcpy(&plan.code, <const char *>raw, sizeof(hitcode_t))
        if plan.code.field_count > HIT_FIELDS_MAX or plan.code.op_count > PREDICATE_OPS_MAX:
            raise ValueError("a plan of too many fields")
        return plan

    def assemble(self, ip: int, *, gate_vaddr: int, dead: int = 0, flags_dead: bool = False, red_zone: bool = True,
                 rseq_offset: int | None = None, signature: int = 0, has_rdpid: bool = False, tid_offset: int = 0,
                 prefix: bytes = b"", suffix: bytes = b""):
        """The code for a place at `ip` (a multiple of 32) between two pieces of other code, as (bytes, sections); each
        section is (again, start, end). None: this cannot be done without a stop."""
        cdef emitter_t out
        cdef hitplace_t at
        cdef hit_sections_t sections
        cdef uint8_t buffer[CODE_MAX]
        cdef const char *part
        cdef uint32_t i
        memset(&at, 0, sizeof(at))
        memset(&sections, 0, sizeof(sections))
        at.gate_vaddr = gate_vaddr
        at.dead = dead & ~(<unsigned int>1 << 4)
        at.flags_dead = flags_dead
        at.red_zone = red_zone
        at.has_rseq = rseq_offset is not None
        at.rseq_offset = rseq_offset or 0
        at.signature = signature
        at.has_rdpid = has_rdpid
        at.tid_offset = tid_offset
        emit_begin(&out, buffer, CODE_MAX, ip)
        part = prefix
        emit_bytes(&out, part, len(prefix))
        if hitcode_emit(&out, &self.code, &at, &sections) != STATUS_OK:
            return None
        part = suffix
        emit_bytes(&out, part, len(suffix))
        hitcode_tail(&out, &out, &sections)
        assert emit_fits(&out)
        return buffer[:out.length], [
            (sections.sections[i].again, sections.sections[i].start, sections.sections[i].end)
            for i in range(sections.count)
        ]

    def holds(self, bytes registers not None, bytes stack not None = b"", unsigned int tid = 0):
        """Whether the predicate holds, as the tracer sees it at a stop. registers: the bytes of the kernel's struct
        user_regs_struct; stack: the bytes from rsp on, as many as the predicate asks for (ValueError: too few)."""
        cdef regs_t regs
        cdef uint64_t words[STACK_WORDS]
        if len(registers) != sizeof(regs_t) or <size_t>len(stack) < 8 * hitcode_stack_words(&self.code):
            raise ValueError(f"{len(registers)} bytes of registers and {len(stack)} of stack: not enough")
        memcpy(&regs, <const char *>registers, sizeof(regs_t))
        memcpy(words, <const char *>stack, min(<size_t>len(stack), sizeof(words)))
        return bool(predicate_holds(&self.code, &regs, words, tid))


cdef int require(str name, long low, value, long high) except -1:
    if not low <= value <= high:
        raise ValueError(f"{name} {value}: must be from {low} to {high}")
    return 0
