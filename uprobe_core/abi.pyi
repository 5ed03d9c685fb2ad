from enum import IntEnum

class insn_attr(IntEnum):
    INSN_HAS_MODRM = 1
    INSN_RIP_RELATIVE = 2
    INSN_MEM_READ = 4
    INSN_MEM_WRITE = 8
    INSN_STACK = 16
    INSN_PRIVILEGED = 32
    INSN_SERIALISING = 64
    INSN_ADDRESS_ONLY = 128
    INSN_MAY_FAULT = 256
    INSN_LOCKED = 512
    INSN_REPEATED = 1024
    INSN_HIGH_BYTE = 2048
    INSN_VECTOR = 4096
    INSN_X87 = 8192
    INSN_SEGMENT_BASE = 16384
    INSN_VENDOR = 32768
    INSN_STACK_POINTER = 65536
    INSN_EXTENDED_STATE = 131072
    INSN_UNDEFINED_LENGTH = 262144

class insn_encoding(IntEnum):
    ENC_LEGACY = 0
    ENC_REX2 = 1
    ENC_VEX = 2
    ENC_EVEX = 3
    ENC_XOP = 4
    ENC_3DNOW = 5

class insn_flow(IntEnum):
    FLOW_NEXT = 0
    FLOW_JMP = 1
    FLOW_JCC = 2
    FLOW_LOOP = 3
    FLOW_CALL = 4
    FLOW_JMP_INDIRECT = 5
    FLOW_CALL_INDIRECT = 6
    FLOW_RET = 7
    FLOW_JMP_FAR = 8
    FLOW_CALL_FAR = 9
    FLOW_RET_FAR = 10
    FLOW_IRET = 11
    FLOW_SYSCALL = 12
    FLOW_SYSRET = 13
    FLOW_INT = 14
    FLOW_XBEGIN = 15
    FLOW_XABORT = 16
    FLOW_NEVER = 17

class insn_map(IntEnum):
    MAP_ONE = 0
    MAP_0F = 1
    MAP_0F38 = 2
    MAP_0F3A = 3
    MAP_4 = 4
    MAP_5 = 5
    MAP_6 = 6
    MAP_7 = 7
    MAP_XOP8 = 8
    MAP_XOP9 = 9
    MAP_XOPA = 10
    MAP_3DNOW = 15

class insn_prefix(IntEnum):
    PFX_66 = 1
    PFX_67 = 2
    PFX_F2 = 4
    PFX_F3 = 8
    PFX_LOCK = 16
    PFX_SEGMENT = 32
    PFX_REX = 64

class insn_segment(IntEnum):
    SEG_NONE = 0
    SEG_ES = 1
    SEG_CS = 2
    SEG_SS = 3
    SEG_DS = 4
    SEG_FS = 5
    SEG_GS = 6

class insn_step(IntEnum):
    STEP_PLAIN = 0
    STEP_REPEAT = 1
    STEP_SHADOW = 2
    STEP_TF_OUT = 3
    STEP_TF_IN = 4
    STEP_SWALLOW = 5
    STEP_SYSCALL = 6
    STEP_FAULT = 7
    STEP_TRAP = 8
    STEP_TRANSACTION = 9

class plan_fixup(IntEnum):
    FIX_IP = 1
    FIX_RETURN = 2
    FIX_SCRATCH = 4
    FIX_SEGMENT = 8
    FIX_TF = 16
    FIX_AGAIN = 32
    FIX_SYSCALL = 64

class plan_place(IntEnum):
    PLACE_NONE = 0
    PLACE_ANY = 1
    PLACE_NEAR = 2
    PLACE_BELOW = 3

class plan_way(IntEnum):
    WAY_BOOST = 0
    WAY_SKIP = 1
    WAY_JMP = 2
    WAY_JCC = 3
    WAY_LOOP = 4
    WAY_CALL = 5
    WAY_CALL_INDIRECT = 6
    WAY_JMP_INDIRECT = 7
    WAY_RET = 8
    WAY_PUSH = 9
    WAY_POP = 10
    WAY_LEA = 11
    WAY_MOV = 12
    WAY_PUSHF = 13
    WAY_LEAVE = 14
    WAY_IN_PLACE = 15
    WAY_POPF = 16
    WAY_BOOST_UNSTEPPED = 17
    WAY_JUMP = 18
    WAY_COUNT = 19

class probe_mode(IntEnum):
    MODE_AUTO = 0
    MODE_STEP = 1
    MODE_TRAP = 2
    MODE_JUMP = 3

class refusal(IntEnum):
    REFUSAL_NONE = 0
    REFUSAL_UNDECODABLE = 1
    REFUSAL_TRUNCATED = 2
    REFUSAL_VENDOR = 3
    REFUSAL_TRAPS_ITSELF = 4
    REFUSAL_ALWAYS_FAULTS = 5
    REFUSAL_SHADOW = 6
    REFUSAL_TRANSACTION = 7
    REFUSAL_MODE = 8
    REFUSAL_STRATEGY = 9
    REFUSAL_TOO_LONG = 10
    REFUSAL_NO_SCRATCH = 11
    REFUSAL_FAR_TRANSFER = 12
    REFUSAL_INSIDE = 13
    REFUSAL_NOT_EXECUTABLE = 14
    REFUSAL_SHARED = 15
    REFUSAL_CHANGED = 16
    REFUSAL_OCCUPIED = 17
    REFUSAL_NO_ROOM = 18
    REFUSAL_BITS = 19
    REFUSAL_RSEQ = 20
    REFUSAL_RESTORER = 21
    REFUSAL_NO_START = 22
    REFUSAL_SHORT = 23
    REFUSAL_LED_INTO = 24
    REFUSAL_INDIRECT = 25
    REFUSAL_PAGE = 26
    REFUSAL_FAULTS = 27
    REFUSAL_SYSTEM_CALL = 28
    REFUSAL_BUSY = 29
    REFUSAL_NO_BOARD = 30
    REFUSAL_COUNT = 31

class rip_strategy(IntEnum):
    RIP_AUTO = 0
    RIP_NONE = 1
    RIP_SCRATCH = 2
    RIP_SEGMENT = 3
    RIP_DISPLACEMENT = 4

class slot_form(IntEnum):
    FORM_NONE = 0
    FORM_COPY = 1
    FORM_LAST = 2
    FORM_JUMP = 3
    FORM_BRANCH = 4
    FORM_CALL = 5
    FORM_CALL_INDIRECT = 6
    FORM_SYSCALL = 7
    FORM_STEP = 8

SIZES: dict[str, int]
PLAN_ONE_STOP: int
SLOT_SIZE: int
OPERAND_NONE: int
REG_NONE: int

class hit_action(IntEnum):
    HIT_COUNT = 0
    HIT_RECORD = 1

class hit_field_kind(IntEnum):
    FIELD_REGISTER = 0
    FIELD_STACK = 1

class predicate_code(IntEnum):
    OP_CONSTANT = 0
    OP_REGISTER = 1
    OP_STACK = 2
    OP_TID = 3
    OP_INVERT = 4
    OP_NEGATE = 5
    OP_IS_ZERO = 6
    OP_SIGN_8 = 7
    OP_SIGN_16 = 8
    OP_SIGN_32 = 9
    OP_ADD = 10
    OP_SUBTRACT = 11
    OP_MULTIPLY = 12
    OP_DIVIDE = 13
    OP_MODULO = 14
    OP_AND = 15
    OP_OR = 16
    OP_XOR = 17
    OP_SHIFT_LEFT = 18
    OP_SHIFT_RIGHT = 19
    OP_SHIFT_SIGNED = 20
    OP_EQUAL = 21
    OP_UNEQUAL = 22
    OP_LESS = 23
    OP_LESS_EQUAL = 24
    OP_GREATER = 25
    OP_GREATER_EQUAL = 26
    OP_LESS_SIGNED = 27
    OP_LESS_EQUAL_SIGNED = 28
    OP_GREATER_SIGNED = 29
    OP_GREATER_EQUAL_SIGNED = 30
    OP_TEST = 31
    OP_CODES = 32
