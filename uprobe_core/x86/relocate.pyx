"""From an instruction to a plan: how it runs at another address."""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset

from uprobe_core.abi cimport (
    ENC_LEGACY,
    FIX_AGAIN,
    FIX_IP,
    FIX_RETURN,
    FIX_SCRATCH,
    FIX_SEGMENT,
    FIX_SYSCALL,
    FIX_TF,
    FLOW_CALL,
    FLOW_CALL_FAR,
    FLOW_CALL_INDIRECT,
    FLOW_INT,
    FLOW_IRET,
    FLOW_JCC,
    FLOW_JMP,
    FLOW_JMP_FAR,
    FLOW_JMP_INDIRECT,
    FLOW_LOOP,
    FLOW_NEVER,
    FLOW_NEXT,
    FLOW_RET,
    FLOW_RET_FAR,
    FLOW_SYSCALL,
    FLOW_SYSRET,
    FLOW_XABORT,
    FLOW_XBEGIN,
    FORM_BRANCH,
    FORM_CALL,
    FORM_CALL_INDIRECT,
    FORM_COPY,
    FORM_JUMP,
    FORM_LAST,
    FORM_NONE,
    FORM_STEP,
    FORM_SYSCALL,
    INSN_RIP_RELATIVE,
    MAP_0F,
    MAP_ONE,
    MODE_AUTO,
    MODE_JUMP,
    MODE_STEP,
    MODE_TRAP,
    OPERAND_NONE,
    PFX_66,
    PFX_67,
    PFX_F3,
    PLACE_ANY,
    PLACE_BELOW,
    PLACE_NEAR,
    PLACE_NONE,
    PLAN_ONE_STOP,
    REFUSAL_ALWAYS_FAULTS,
    REFUSAL_BITS,
    REFUSAL_FAR_TRANSFER,
    REFUSAL_MODE,
    REFUSAL_NO_ROOM,
    REFUSAL_NONE,
    REFUSAL_SHADOW_STACK,
    REFUSAL_TRANSACTION,
    REFUSAL_TRAPS_ITSELF,
    REFUSAL_VENDOR,
    REG_NONE,
    RIP_AUTO,
    RIP_DISPLACEMENT,
    RIP_NONE,
    RIP_SCRATCH,
    RIP_SEGMENT,
    SLOT_SIZE,
    STEP_PLAIN,
    STEP_REPEAT,
    STEP_TF_IN,
    STEP_TF_OUT,
    STEP_TRANSACTION,
    WAY_BOOST,
    WAY_BOOST_UNSTEPPED,
    WAY_CALL,
    WAY_CALL_INDIRECT,
    WAY_IN_PLACE,
    WAY_JCC,
    WAY_JMP,
    WAY_JMP_INDIRECT,
    WAY_LEA,
    WAY_LEAVE,
    WAY_LOOP,
    WAY_MOV,
    WAY_POP,
    WAY_POPF,
    WAY_PUSH,
    WAY_PUSHF,
    WAY_RET,
    WAY_SKIP,
    insn_t,
    plan_t,
)
from uprobe_core.status cimport STATUS_NO_ROOM, STATUS_OK, STATUS_REFUSED
from uprobe_core.x86.decode cimport DECODE_64, DECODE_AMD, DECODE_INTEL, insn_decode
from uprobe_core.x86.emit cimport (
    emit_begin,
    emit_byte,
    emit_bytes,
    emit_fits,
    emit_jump,
    emit_load,
    emit_push,
    emitter_t,
    jump_size,
    push_size,
    reach_near,
)
from uprobe_core.x86.emulate cimport emulate_way
from uprobe_core.x86.operand cimport (
    operand_answer,
    operand_call_to_jmp,
    operand_is_constant,
    operand_load_constant,
)
from uprobe_core.x86.registers cimport REG_RCX

cdef enum:
    SYSCALL_SIZE = 2
    VECTOR_SYSTEM_CALL = 0x80
    REX_W = 8
    OPCODE_NOP = 0x90
    OPCODE_INT3 = 0xCC
    OPCODE_JCC_SHORT = 0x70
    PREFIX_67 = 0x67
    PREFIX_F2 = 0xF2
    PREFIX_F3 = 0xF3


cdef inline int plan_refuse(plan_t *plan, int refusal) noexcept nogil:
    plan.refusal = <uint8_t>refusal
    return STATUS_REFUSED if refusal else STATUS_OK


cdef void plan_reset(const insn_t *insn, const uint8_t *code, plan_t *plan) noexcept nogil:
    memset(plan, 0, sizeof(plan_t))
    memcpy(plan.original, code, insn.length)
    plan.length = insn.length
    plan.strategy = RIP_NONE
    plan.scratch = REG_NONE
    plan.operand = OPERAND_NONE
    plan.target_vaddr = insn.target


cdef inline bint flow_is_near_branch(int flow) noexcept nogil:
    return flow in (FLOW_JMP, FLOW_JCC, FLOW_LOOP, FLOW_CALL, FLOW_JMP_INDIRECT, FLOW_CALL_INDIRECT, FLOW_RET)


cdef inline bint insn_is_system_call(const insn_t *insn, const uint8_t *code) noexcept nogil:
    return insn.flow == FLOW_SYSCALL or (insn.flow == FLOW_INT and code[insn.length - 1] == VECTOR_SYSTEM_CALL)


cdef int refuse_always(const insn_t *insn, const uint8_t *code) noexcept nogil:
    """The refusal that holds in every mode, or REFUSAL_NONE."""
    if insn.bits != 64:
        return REFUSAL_BITS
    if insn.flow == FLOW_INT and not insn_is_system_call(insn, code):
        return REFUSAL_TRAPS_ITSELF
    if insn.flow == FLOW_NEVER:  # whoever handles the fault may look at the bytes, and would find an int3
        return REFUSAL_ALWAYS_FAULTS
    if insn.flow == FLOW_CALL_FAR:  # how much it pushes depends on the vendor
        return REFUSAL_FAR_TRANSFER
    # AMD truncates rip to 16 bits, Intel ignores the prefix; with it the length of a rel32 differs as well. REX.W takes
    # it back on both: __tls_get_addr is called so.
    if flow_is_near_branch(insn.flow) and insn.prefixes & PFX_66 and not insn.rex & REX_W:
        return REFUSAL_VENDOR
    if insn.flow == FLOW_SYSCALL and insn.opcode != 0x05:  # sysenter: #UD in 64-bit mode on AMD
        return REFUSAL_VENDOR
    if insn.flow in (FLOW_XABORT, FLOW_XBEGIN) or insn.step == STEP_TRANSACTION:
        return REFUSAL_TRANSACTION
    return REFUSAL_NONE


cdef bint insn_is_nop(const insn_t *insn) noexcept nogil:
    """nop, multi-byte nop, endbr64 and endbr32: nothing but ip changes."""
    if insn.encoding != ENC_LEGACY:
        return False
    if insn.map == MAP_ONE:
        return insn.opcode == OPCODE_NOP and not insn.rex & 1  # REX.B makes it xchg r8, rax, even under F3
    if insn.map != MAP_0F:
        return False
    if insn.opcode == 0x1F:
        return True
    return insn.opcode == 0x1E and insn.prefixes & PFX_F3 != 0 and insn.modrm in (0xFA, 0xFB)


cdef void plan_boost(int form, int strategy, plan_t *plan) noexcept nogil:
    plan.kind = PLAN_ONE_STOP | WAY_BOOST
    plan.form = <uint8_t>form
    plan.operand = <uint8_t>strategy


cdef void plan_emulate(int way, int form, const insn_t *insn, plan_t *plan) noexcept nogil:
    plan.kind = <uint8_t>(PLAN_ONE_STOP | way)
    plan.form = <uint8_t>form
    plan.operand = insn.opcode_off


cdef void plan_branch(const insn_t *insn, const uint8_t *code, plan_t *plan) noexcept nogil:
    """A copy of a conditional branch in its short form, whose rel8 plan_place fills in.

    Of the prefixes only those remain that do something to loop: 67 makes it count in ecx, and the last F2 or F3
    chooses between loopne and loope, whatever the opcode says (measured on AMD Zen; undefined by the SDM).
    """
    cdef emitter_t out
    cdef uint8_t repeat = 0
    cdef size_t i
    emit_begin(&out, plan.copy, sizeof(plan.copy), 0)
    if insn.flow == FLOW_LOOP:
        for i in range(insn.prefix_len):
            if code[i] in (PREFIX_F2, PREFIX_F3):
                repeat = code[i]
        if insn.prefixes & PFX_67:
            emit_byte(&out, PREFIX_67)
        if repeat:
            emit_byte(&out, repeat)
    emit_byte(&out, OPCODE_JCC_SHORT | (insn.opcode & 15) if insn.flow == FLOW_JCC else insn.opcode)
    emit_byte(&out, 0)
    plan.copy_length = <uint8_t>out.length
    plan.place = PLACE_ANY


cdef int plan_without_slot(const insn_t *insn, plan_t *plan) noexcept nogil:
    cdef int way = emulate_way(insn)
    if way < 0:
        return REFUSAL_NO_ROOM
    plan.place = PLACE_NONE
    plan_emulate(way, FORM_NONE, insn, plan)
    return REFUSAL_NONE


cdef int trap_call_indirect(const insn_t *insn, const uint8_t *code, int strategy, plan_t *plan) noexcept nogil:
    if not operand_call_to_jmp(insn, code, plan):
        return REFUSAL_MODE
    if insn.modrm < 0xC0 and not insn.attrs & INSN_RIP_RELATIVE:
        # The push must not overwrite the operand before it is read: only the registers at the hit can tell.
        plan_emulate(WAY_CALL_INDIRECT, FORM_CALL_INDIRECT, insn, plan)
    else:
        plan_boost(FORM_CALL_INDIRECT, strategy, plan)
    return REFUSAL_NONE


cdef void plan_syscall(plan_t *plan) noexcept nogil:
    """A copy without prefixes, which do nothing: the kernel restarts it two bytes back."""
    memcpy(plan.copy, plan.original + plan.length - SYSCALL_SIZE, SYSCALL_SIZE)
    plan.copy_length = SYSCALL_SIZE


cdef int boost_form(int flow) noexcept nogil:
    """The slot of an instruction whose copy does all the work."""
    if flow in (FLOW_JMP_INDIRECT, FLOW_RET, FLOW_JMP_FAR, FLOW_RET_FAR, FLOW_IRET):
        return FORM_LAST
    return FORM_SYSCALL if flow == FLOW_SYSCALL else FORM_COPY


cdef int trap_make(const insn_t *insn, const uint8_t *code, uint64_t ip, int strategy, int near,
                   plan_t *plan) noexcept nogil:
    """Plans one stop. Returns an enum refusal."""
    cdef int refusal
    if insn_is_nop(insn):
        plan.target_vaddr = ip + insn.length
        plan_emulate(WAY_SKIP, FORM_JUMP, insn, plan)
        return REFUSAL_NONE
    if insn.flow == FLOW_JMP:
        plan_emulate(WAY_JMP, FORM_JUMP, insn, plan)
        return REFUSAL_NONE
    if near == REACH_NONE:
        return plan_without_slot(insn, plan)
    if insn.flow == FLOW_CALL:
        plan.place = PLACE_ANY
        plan_boost(FORM_CALL, strategy, plan)
        return REFUSAL_NONE
    if insn.flow in (FLOW_JCC, FLOW_LOOP):
        plan_branch(insn, code, plan)
        plan_boost(FORM_BRANCH, strategy, plan)
        return REFUSAL_NONE
    if operand_is_constant(insn) and strategy == RIP_AUTO:
        operand_load_constant(insn, ip, plan)
        plan_boost(FORM_COPY, strategy, plan)
        return REFUSAL_NONE
    # An operand out of reach is not emulated: its memory may be missing, and then only a copy can raise the fault.
    refusal = operand_answer(insn, code, ip, strategy, near, False, plan)
    if refusal:
        return refusal
    if insn.flow == FLOW_CALL_INDIRECT:
        return trap_call_indirect(insn, code, strategy, plan)
    if insn.flow == FLOW_SYSCALL:
        plan_syscall(plan)
    plan_boost(boost_form(insn.flow), strategy, plan)
    if insn.step == STEP_TF_OUT or insn_is_system_call(insn, code):
        plan.kind = PLAN_ONE_STOP | WAY_BOOST_UNSTEPPED
    elif insn.step == STEP_TF_IN and insn.flow == FLOW_NEXT:
        plan_emulate(WAY_POPF, FORM_COPY, insn, plan)
    return REFUSAL_NONE


cdef int step_in_place(const insn_t *insn, plan_t *plan) noexcept nogil:
    """Not for a system call, which may block while all threads are stopped, nor where the trap flag would show."""
    if insn.step not in (STEP_PLAIN, STEP_REPEAT):
        return REFUSAL_NO_ROOM
    plan_emulate(WAY_IN_PLACE, FORM_NONE, insn, plan)
    return REFUSAL_NONE


cdef int step_make(const insn_t *insn, const uint8_t *code, uint64_t ip, int strategy, int near,
                   plan_t *plan) noexcept nogil:
    """Plans a copy that is single-stepped. Returns an enum refusal."""
    cdef int refusal
    if near == REACH_NONE:
        return step_in_place(insn, plan)
    refusal = operand_answer(insn, code, ip, strategy, near, True, plan)
    if refusal:
        return refusal
    plan.form = FORM_STEP
    if plan.scratch != REG_NONE:
        plan.kind |= FIX_SCRATCH
        plan.operand = plan.scratch
    elif plan.place == PLACE_BELOW:
        plan.kind |= FIX_SEGMENT
    if insn.flow in (FLOW_NEXT, FLOW_JMP, FLOW_JCC, FLOW_LOOP, FLOW_CALL, FLOW_SYSCALL, FLOW_INT, FLOW_SYSRET):
        plan.kind |= FIX_IP
    if insn.flow in (FLOW_CALL, FLOW_CALL_INDIRECT):
        plan.kind |= FIX_RETURN
    if insn.flow in (FLOW_JMP, FLOW_JCC, FLOW_LOOP, FLOW_CALL):
        # Taken or not, the copy ends inside the slot: a slot at the top of the address space has no room ahead of it.
        plan.operand = insn.opcode_off
        memset(plan.copy + insn.opcode_off + 1, 0, insn.length - insn.opcode_off - 1)
        plan.copy[insn.opcode_off + 1] = 1
    if insn.step == STEP_REPEAT:
        plan.kind |= FIX_AGAIN
    elif insn.step == STEP_TF_OUT:
        plan.kind |= FIX_TF
    elif insn_is_system_call(insn, code):
        plan.kind |= FIX_SYSCALL
    return REFUSAL_NONE


cdef int plan_make(const insn_t *insn, const uint8_t *code, uint64_t ip, int mode, int strategy, int near,
                   plan_t *plan) noexcept nogil:
    cdef int refusal
    plan_reset(insn, code, plan)
    refusal = refuse_always(insn, code)
    if refusal:
        return plan_refuse(plan, refusal)
    if mode == MODE_JUMP:
        return plan_refuse(plan, REFUSAL_MODE)
    if mode != MODE_STEP:
        refusal = trap_make(insn, code, ip, strategy, near, plan)
        if not refusal or mode != MODE_AUTO:
            return plan_refuse(plan, refusal)
        plan_reset(insn, code, plan)
    return plan_refuse(plan, step_make(insn, code, ip, strategy, near, plan))


cdef bint plan_makes_up_return(const insn_t *insn, const plan_t *plan) noexcept nogil:
    if insn.flow in (FLOW_CALL, FLOW_CALL_INDIRECT):
        return plan.kind != (PLAN_ONE_STOP | WAY_IN_PLACE)
    return plan.kind == (PLAN_ONE_STOP | WAY_RET)


cdef int copy_place(plan_t *plan, uint64_t copy_ip) noexcept nogil:
    """Fill in the displacement of a copy that will run at `copy_ip`."""
    cdef uint64_t end_ip = copy_ip + plan.copy_length
    cdef uint64_t disp = plan.target_vaddr - end_ip
    if not plan.disp_off:
        return STATUS_OK
    memcpy(plan.copy + plan.disp_off, &disp, 4)
    return STATUS_OK if plan.place == PLACE_ANY or reach_near(end_ip, plan.target_vaddr) else STATUS_NO_ROOM


cdef int plan_place(plan_t *plan, uint64_t ip, uint64_t slot_ip) noexcept nogil:
    cdef emitter_t out
    cdef uint64_t next_ip = ip + plan.length
    cdef size_t copy_off = push_size(next_ip) if plan.form == FORM_CALL_INDIRECT else 0
    cdef int status
    memset(plan.slot, OPCODE_INT3, SLOT_SIZE)
    if plan.form == FORM_NONE:
        return STATUS_OK
    status = copy_place(plan, slot_ip + copy_off)
    if status:
        return status
    if plan.place == PLACE_BELOW and slot_ip + plan.copy_length > next_ip:
        return STATUS_NO_ROOM
    if plan.form == FORM_BRANCH:
        plan.copy[plan.copy_length - 1] = <uint8_t>jump_size(slot_ip + plan.copy_length, next_ip)
    emit_begin(&out, plan.slot, SLOT_SIZE, slot_ip)
    if plan.form in (FORM_CALL, FORM_CALL_INDIRECT):
        emit_push(&out, next_ip)
    emit_bytes(&out, plan.copy, plan.copy_length)
    if plan.form == FORM_STEP:
        # mov ss holds the trap off by one instruction, and so does an instruction that the kernel emulates.
        emit_byte(&out, OPCODE_NOP)
    elif plan.form == FORM_SYSCALL:
        emit_load(&out, REG_RCX, next_ip)
    if plan.form in (FORM_COPY, FORM_BRANCH, FORM_SYSCALL):
        emit_jump(&out, next_ip)
    if plan.form in (FORM_JUMP, FORM_BRANCH, FORM_CALL):
        emit_jump(&out, plan.target_vaddr)
    plan.slot_length = <uint8_t>(SLOT_SIZE if out.literals else out.length)
    return STATUS_OK if emit_fits(&out) else STATUS_NO_ROOM


cdef extern from "decode_options.h" nogil:
    unsigned int decode_host_vendor()

VENDORS = {None: decode_host_vendor(), "amd": DECODE_AMD, "intel": DECODE_INTEL}
MODES = {"auto": MODE_AUTO, "step": MODE_STEP, "trap": MODE_TRAP, "jump": MODE_JUMP}
STRATEGIES = {
    "auto": RIP_AUTO,
    "scratch": RIP_SCRATCH,
    "segment": RIP_SEGMENT,
    "displacement": RIP_DISPLACEMENT,
}
REACHES = {"none": REACH_NONE, "any": REACH_ANY, "near": REACH_NEAR}
_STRATEGY_NAMES = {value: name for name, value in STRATEGIES.items()} | {RIP_NONE: "none"}
_PLACE_NAMES = {PLACE_NONE: "none", PLACE_ANY: "any", PLACE_NEAR: "near", PLACE_BELOW: "below"}
_REGISTER_NAMES = (
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)
_WAY_NAMES = {
    WAY_BOOST: "boost",
    WAY_BOOST_UNSTEPPED: "boost",
    WAY_SKIP: "emulate: skip",
    WAY_JMP: "emulate: jmp",
    WAY_JCC: "emulate: jcc",
    WAY_LOOP: "emulate: loop",
    WAY_CALL: "emulate: call",
    WAY_CALL_INDIRECT: "emulate: indirect call",
    WAY_JMP_INDIRECT: "emulate: indirect jmp",
    WAY_RET: "emulate: ret",
    WAY_PUSH: "emulate: push",
    WAY_POP: "emulate: pop",
    WAY_LEA: "emulate: lea",
    WAY_MOV: "emulate: mov",
    WAY_PUSHF: "emulate: pushf",
    WAY_LEAVE: "emulate: leave",
    WAY_IN_PLACE: "step in place",
    WAY_POPF: "emulate: popf",
}
_FIXUP_NAMES = (
    (FIX_IP, "fix ip"),
    (FIX_RETURN, "fix return address"),
    (FIX_SCRATCH, "restore scratch {scratch}"),
    (FIX_SEGMENT, "restore gs base"),
    (FIX_TF, "hide trap flag"),
    (FIX_AGAIN, "repeat"),
    (FIX_SYSCALL, "fix system call"),
)


def kind_name(kind: int, scratch: str | None = None) -> str:
    """The plan byte in words, such as "boost" or "step: fix ip, restore scratch rsi"."""
    if kind & PLAN_ONE_STOP:
        return _WAY_NAMES[kind & ~PLAN_ONE_STOP]
    fixups = [text.format(scratch=scratch) for bit, text in _FIXUP_NAMES if kind & bit]
    return "step: " + (", ".join(fixups) or "nothing to fix")


cdef class Plan:
    """How one instruction runs out of line. Made by `plan`; immutable."""

    @property
    def kind(self) -> int:
        """The plan byte."""
        return self.plan.kind

    @property
    def kind_name(self) -> str:
        """The plan byte in words; of a refused plan, "refused"."""
        return "refused" if self.plan.refusal else kind_name(self.plan.kind, self.scratch)

    @property
    def refusal(self) -> int:
        """Why there is no plan (enum refusal); 0 when there is one."""
        return self.plan.refusal

    @property
    def strategy(self) -> str:
        """How the RIP-relative operand is found: "none", "scratch", "segment" or "displacement"."""
        return _STRATEGY_NAMES[self.plan.strategy]

    @property
    def scratch(self) -> str | None:
        """The scratch register's name."""
        return None if self.plan.scratch == REG_NONE else _REGISTER_NAMES[self.plan.scratch]

    @property
    def place(self) -> str:
        """Where the slot must lie: "none", "any", "near" or "below"."""
        return _PLACE_NAMES[self.plan.place]

    @property
    def ip(self) -> int:
        """Address of the instruction."""
        return self.site_ip

    @property
    def slot_ip(self) -> int | None:
        """Address of the slot that `slot` was written for."""
        return self.slot_vaddr or None

    @property
    def original(self) -> bytes:
        """The instruction's bytes."""
        return self.plan.original[:self.plan.length]

    @property
    def copy_length(self) -> int:
        """Bytes of the rewritten instruction in the slot."""
        return self.plan.copy_length

    @property
    def operand(self) -> int:
        """The four bits that the site keeps beside the plan byte."""
        return self.plan.operand

    @property
    def slot(self) -> bytes:
        """The slot's bytes in use; empty without a slot."""
        return self.plan.slot[:self.plan.slot_length]

    def __repr__(self) -> str:
        return f"<Plan {self.original.hex(' ')}: {self.kind_name}>"


def plan(code: bytes, ip: int, slot_ip: int | None = None, *, mode: str = "auto", rip: str = "auto",
         reach: str = "near", vendor: str | None = None, shadow_stack: bool = False) -> Plan:
    """How the instruction at the start of `code` can run out of line.

    ip: its address. slot_ip: address of the slot to write, if any; ValueError when it is out of reach.
    mode: "auto", "step" or "trap". rip: "auto", "scratch", "segment" or "displacement", for RIP-relative operands.
    reach: the slots that can be had, "none", "any" or "near". vendor: "amd", "intel", or None for this processor's.
    shadow_stack: the processor checks the program's return addresses.
    Raises ValueError for bytes that are no instruction. A refusal is not an error: see Plan.refusal.
    """
    cdef insn_t insn
    cdef const uint8_t *bytes_ptr = code
    cdef Plan made = Plan.__new__(Plan)
    cdef int status = insn_decode(bytes_ptr, len(code), ip, VENDORS[vendor] | DECODE_64, &insn)
    if status:
        raise ValueError(f"0x{ip:x}: no instruction in {code[:15].hex(' ')} (decoder status {status})")
    made.site_ip = ip
    plan_make(&insn, bytes_ptr, ip, MODES[mode], STRATEGIES[rip], REACHES[reach], &made.plan)
    if shadow_stack and not made.plan.refusal and plan_makes_up_return(&insn, &made.plan):
        made.plan.refusal = REFUSAL_SHADOW_STACK
    if slot_ip is not None and not made.plan.refusal:
        if plan_place(&made.plan, ip, slot_ip):
            raise ValueError(f"0x{ip:x}: slot 0x{slot_ip:x} is out of reach; it must be {made.place}")
        if made.plan.slot_length:
            made.slot_vaddr = slot_ip
    return made
