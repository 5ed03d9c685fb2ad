"""abi.h for Cython. The contract of every field stands in the header."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "abi.h" nogil:
    const unsigned int INSN_MAX

    cpdef enum insn_encoding:
        ENC_LEGACY
        ENC_REX2
        ENC_VEX
        ENC_EVEX
        ENC_XOP
        ENC_3DNOW

    cpdef enum insn_map:
        MAP_ONE
        MAP_0F
        MAP_0F38
        MAP_0F3A
        MAP_4
        MAP_5
        MAP_6
        MAP_7
        MAP_XOP8
        MAP_XOP9
        MAP_XOPA
        MAP_3DNOW

    cpdef enum insn_prefix:
        PFX_66
        PFX_67
        PFX_F2
        PFX_F3
        PFX_LOCK
        PFX_SEGMENT
        PFX_REX

    cpdef enum insn_segment:
        SEG_NONE
        SEG_ES
        SEG_CS
        SEG_SS
        SEG_DS
        SEG_FS
        SEG_GS

    cpdef enum insn_flow:
        FLOW_NEXT
        FLOW_JMP
        FLOW_JCC
        FLOW_LOOP
        FLOW_CALL
        FLOW_JMP_INDIRECT
        FLOW_CALL_INDIRECT
        FLOW_RET
        FLOW_JMP_FAR
        FLOW_CALL_FAR
        FLOW_RET_FAR
        FLOW_IRET
        FLOW_SYSCALL
        FLOW_SYSRET
        FLOW_INT
        FLOW_XBEGIN
        FLOW_XABORT
        FLOW_NEVER

    cpdef enum insn_step:
        STEP_PLAIN
        STEP_REPEAT
        STEP_SHADOW
        STEP_TF_OUT
        STEP_TF_IN
        STEP_SWALLOW
        STEP_SYSCALL
        STEP_FAULT
        STEP_TRAP
        STEP_TRANSACTION

    cpdef enum insn_attr:
        INSN_HAS_MODRM
        INSN_RIP_RELATIVE
        INSN_MEM_READ
        INSN_MEM_WRITE
        INSN_STACK
        INSN_PRIVILEGED
        INSN_SERIALISING
        INSN_ADDRESS_ONLY
        INSN_MAY_FAULT
        INSN_LOCKED
        INSN_REPEATED
        INSN_HIGH_BYTE
        INSN_VECTOR
        INSN_X87
        INSN_SEGMENT_BASE
        INSN_VENDOR
        INSN_STACK_POINTER
        INSN_EXTENDED_STATE
        INSN_UNDEFINED_LENGTH
    const unsigned int REG_NONE

    ctypedef struct insn_t:
        uint64_t target
        int64_t imm
        int32_t disp
        uint32_t attrs
        uint16_t name
        uint8_t length
        uint8_t bits
        uint8_t encoding
        uint8_t map
        uint8_t opcode
        uint8_t pp
        uint8_t prefixes
        uint8_t segment
        uint8_t rex
        uint8_t rex_high
        uint8_t vvvv
        uint8_t vector_length
        uint8_t evex
        uint8_t modrm
        uint8_t sib
        uint8_t opcode_off
        uint8_t modrm_off
        uint8_t has_sib
        uint8_t disp_off
        uint8_t disp_size
        uint8_t imm_off
        uint8_t imm_size
        uint8_t operand_size
        uint8_t address_size
        uint8_t flow
        uint8_t step
        uint8_t prefix_len
        uint8_t reserved[1]
        uint16_t form
        uint8_t padding[4]

    ctypedef struct effects_t:
        uint32_t reads
        uint32_t writes
        uint32_t kills
        uint32_t flags_read
        uint32_t flags_written
        uint32_t flags_undefined

    ctypedef struct regs_t:
        uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, orig_rax, rip, cs, eflags, rsp, ss, fs_base, gs_base, ds, es, fs, gs
    const unsigned int EFLAGS_CF
    const unsigned int EFLAGS_PF
    const unsigned int EFLAGS_AF
    const unsigned int EFLAGS_ZF
    const unsigned int EFLAGS_SF
    const unsigned int EFLAGS_TF
    const unsigned int EFLAGS_IF
    const unsigned int EFLAGS_DF
    const unsigned int EFLAGS_OF
    const unsigned int EFLAGS_NT
    const unsigned int EFLAGS_RF
    const unsigned int EFLAGS_AC
    const unsigned int EFLAGS_ID
    const unsigned int SLOT_SIZE

    cpdef enum probe_mode:
        MODE_AUTO
        MODE_STEP
        MODE_TRAP
        MODE_JUMP

    cpdef enum rip_strategy:
        RIP_AUTO
        RIP_NONE
        RIP_SCRATCH
        RIP_SEGMENT
        RIP_DISPLACEMENT
    const unsigned int PLAN_ONE_STOP

    cpdef enum plan_fixup:
        FIX_IP
        FIX_RETURN
        FIX_SCRATCH
        FIX_SEGMENT
        FIX_TF
        FIX_AGAIN
        FIX_SYSCALL

    cpdef enum plan_way:
        WAY_BOOST
        WAY_SKIP
        WAY_JMP
        WAY_JCC
        WAY_LOOP
        WAY_CALL
        WAY_CALL_INDIRECT
        WAY_JMP_INDIRECT
        WAY_RET
        WAY_PUSH
        WAY_POP
        WAY_LEA
        WAY_MOV
        WAY_PUSHF
        WAY_LEAVE
        WAY_IN_PLACE
        WAY_POPF
        WAY_BOOST_UNSTEPPED
        WAY_COUNT

    const unsigned int OPERAND_NONE

    cpdef enum plan_place:
        PLACE_NONE
        PLACE_ANY
        PLACE_NEAR
        PLACE_BELOW

    cpdef enum slot_form:
        FORM_NONE
        FORM_COPY
        FORM_LAST
        FORM_JUMP
        FORM_BRANCH
        FORM_CALL
        FORM_CALL_INDIRECT
        FORM_SYSCALL
        FORM_STEP

    cpdef enum refusal:
        REFUSAL_NONE
        REFUSAL_UNDECODABLE
        REFUSAL_TRUNCATED
        REFUSAL_VENDOR
        REFUSAL_TRAPS_ITSELF
        REFUSAL_ALWAYS_FAULTS
        REFUSAL_SHADOW
        REFUSAL_TRANSACTION
        REFUSAL_MODE
        REFUSAL_STRATEGY
        REFUSAL_TOO_LONG
        REFUSAL_NO_SCRATCH
        REFUSAL_FAR_TRANSFER
        REFUSAL_INSIDE
        REFUSAL_NOT_EXECUTABLE
        REFUSAL_SHARED
        REFUSAL_CHANGED
        REFUSAL_OCCUPIED
        REFUSAL_NO_ROOM
        REFUSAL_BITS
        REFUSAL_RSEQ
        REFUSAL_RESTORER
        REFUSAL_NO_START
        REFUSAL_SHORT
        REFUSAL_LED_INTO
        REFUSAL_INDIRECT
        REFUSAL_PAGE
        REFUSAL_FAULTS
        REFUSAL_SYSTEM_CALL
        REFUSAL_SIGTRAP
        REFUSAL_SHADOW_STACK
        REFUSAL_COUNT

    ctypedef struct plan_t:
        uint8_t kind
        uint8_t refusal
        uint8_t place
        uint8_t strategy
        uint8_t scratch
        uint8_t length
        uint8_t copy_length
        uint8_t slot_length
        uint8_t original[16]
        uint8_t slot[SLOT_SIZE]
        uint64_t reach_vaddr
        uint64_t target_vaddr
        uint8_t operand
        uint8_t form
        uint8_t disp_off
        uint8_t copy[20]

    cpdef enum hit_action:
        HIT_COUNT
        HIT_RECORD
    const unsigned int RING_STEP_SHIFT
    const unsigned int RING_STEP
    const unsigned int RING_HEADER
    ctypedef struct ring_t:
        uint64_t head
        uint64_t lost
        uint64_t tail
        uint64_t budget

    ctypedef struct record_t:
        uint64_t tsc
        uint32_t tid
        uint32_t site
    const unsigned int RECORD_UNREAD
    const unsigned int HIT_FIELDS_MAX
    const unsigned int HIT_STACK_MAX

    cpdef enum hit_field_kind:
        FIELD_REGISTER
        FIELD_STACK
    ctypedef struct hit_field_t:
        uint8_t kind
        uint8_t number
        uint16_t word

    cpdef enum predicate_code:
        OP_CONSTANT
        OP_REGISTER
        OP_STACK
        OP_TID
        OP_INVERT
        OP_NEGATE
        OP_IS_ZERO
        OP_SIGN_8
        OP_SIGN_16
        OP_SIGN_32
        OP_ADD
        OP_SUBTRACT
        OP_MULTIPLY
        OP_DIVIDE
        OP_MODULO
        OP_AND
        OP_OR
        OP_XOR
        OP_SHIFT_LEFT
        OP_SHIFT_RIGHT
        OP_SHIFT_SIGNED
        OP_EQUAL
        OP_UNEQUAL
        OP_LESS
        OP_LESS_EQUAL
        OP_GREATER
        OP_GREATER_EQUAL
        OP_LESS_SIGNED
        OP_LESS_EQUAL_SIGNED
        OP_GREATER_SIGNED
        OP_GREATER_EQUAL_SIGNED
        OP_TEST
        OP_CODES
    const unsigned int PREDICATE_OPS_MAX
    const unsigned int PREDICATE_DEPTH_MAX
    ctypedef struct predicate_op_t:
        uint64_t code
        uint64_t value

    ctypedef struct hitcode_t:
        uint8_t action
        uint8_t shift
        uint8_t order
        uint8_t field_count
        uint8_t op_count
        uint16_t board
        uint32_t offset
        uint32_t budget
        uint32_t every
        uint32_t site
        hit_field_t fields[HIT_FIELDS_MAX]
        predicate_op_t ops[PREDICATE_OPS_MAX]

    ctypedef struct hitplace_t:
        uint64_t gate_vaddr
        uint32_t dead
        uint8_t flags_dead
        uint8_t red_zone
        uint8_t has_rseq
        uint8_t has_rdpid
        int32_t rseq_offset
        uint32_t signature
        int32_t tid_offset

    ctypedef struct hit_section_t:
        uint32_t again
        uint32_t start
        uint32_t end
        uint32_t descriptor
    const unsigned int HIT_SECTIONS_MAX
    ctypedef struct hit_sections_t:
        uint32_t count
        uint32_t signature
        hit_section_t sections[HIT_SECTIONS_MAX]
