/* Values that cross a language, thread or process boundary. Plain structs, no pointers into a target.
 *
 * Addresses are named by where they live: *_vaddr / *_ip in a target, *_off in a file, *_ptr ours.
 */
#ifndef UPROBES_ABI_H
#define UPROBES_ABI_H

#include <stddef.h>
#include <stdint.h>

/* ---- instruction ------------------------------------------------------------------------------ */

#define INSN_MAX 15 /* SDM vol. 2, 2.3.11: a longer instruction raises #GP */

enum insn_encoding { ENC_LEGACY, ENC_REX2, ENC_VEX, ENC_EVEX, ENC_XOP, ENC_3DNOW };

/* Numbers of VEX/EVEX/XOP map fields; the legacy escapes use the same numbers. */
enum insn_map {
    MAP_ONE = 0, MAP_0F = 1, MAP_0F38 = 2, MAP_0F3A = 3, MAP_4 = 4, MAP_5 = 5, MAP_6 = 6, MAP_7 = 7,
    MAP_XOP8 = 8, MAP_XOP9 = 9, MAP_XOPA = 10, MAP_3DNOW = 15
};

/* Prefix bytes present, whether or not they have an effect. */
enum insn_prefix {
    PFX_66 = 0x01, PFX_67 = 0x02, PFX_F2 = 0x04, PFX_F3 = 0x08, PFX_LOCK = 0x10, PFX_SEGMENT = 0x20,
    PFX_REX = 0x40 /* a REX byte that counts: the last byte before the opcode */
};

/* The segment override in effect: in 64-bit mode only FS and GS have one. */
enum insn_segment { SEG_NONE, SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS };

/* Where control goes. The order is part of the ABI; append only. */
enum insn_flow {
    FLOW_NEXT,          /* the following instruction */
    FLOW_JMP,           /* direct near jmp */
    FLOW_JCC,           /* direct conditional jump; the condition is opcode & 15 */
    FLOW_LOOP,          /* loopne e0, loope e1, loop e2, jcxz/jecxz/jrcxz e3 */
    FLOW_CALL,          /* direct near call */
    FLOW_JMP_INDIRECT,  /* ff /4 */
    FLOW_CALL_INDIRECT, /* ff /2 */
    FLOW_RET,           /* c2 c3 */
    FLOW_JMP_FAR,       /* ea, ff /5, jmpabs */
    FLOW_CALL_FAR,      /* 9a, ff /3 */
    FLOW_RET_FAR,       /* ca cb */
    FLOW_IRET,          /* cf, uiret */
    FLOW_SYSCALL,       /* syscall, sysenter */
    FLOW_SYSRET,        /* sysret, sysexit */
    FLOW_INT,           /* int n, int3, int1, into */
    FLOW_XBEGIN,        /* xbegin: may continue at its target */
    FLOW_XABORT,        /* xabort */
    FLOW_NEVER          /* always faults in user mode: ud0 ud1 ud2 hlt */
};

/* How single-stepping the instruction behaves (SDM vol. 3, 17.3.1.4, and measurement). */
enum insn_step {
    STEP_PLAIN,    /* one trap, after it */
    STEP_REPEAT,   /* rep string: one trap an iteration, ip unchanged until the last */
    STEP_SHADOW,   /* mov ss, pop ss: the trap comes after the following instruction */
    STEP_TF_OUT,   /* pushf: the image pushed carries the stepper's trap flag */
    STEP_TF_IN,    /* popf, iret: loads the trap flag */
    STEP_SWALLOW,  /* emulated by the kernel in a fault handler: the trap is lost */
    STEP_SYSCALL,  /* syscall, sysenter, int 0x80: enters the kernel */
    STEP_FAULT,    /* privileged or undefined: faults in user mode */
    STEP_TRAP,     /* int3, int1, int n, into: raises a signal of its own */
    STEP_TRANSACTION /* xbegin, xend, xabort: a trap aborts the transaction */
};

/* Attributes, one bit each. */
enum insn_attr {
    INSN_HAS_MODRM = 1 << 0,
    INSN_RIP_RELATIVE = 1 << 1, /* the memory operand is [rip+disp32], or [eip+disp32] with PFX_67 */
    INSN_MEM_READ = 1 << 2,     /* reads memory through an explicit or string operand */
    INSN_MEM_WRITE = 1 << 3,
    INSN_STACK = 1 << 4,        /* implicit push or pop */
    INSN_PRIVILEGED = 1 << 5,
    INSN_SERIALISING = 1 << 6,
    INSN_ADDRESS_ONLY = 1 << 7, /* lea and the like: computes an address, ignores segment bases */
    INSN_MAY_FAULT = 1 << 8,    /* may raise a fault in user mode (memory, divide, alignment, FP) */
    INSN_LOCKED = 1 << 9,       /* a legal LOCK, or xchg with memory */
    INSN_REPEATED = 1 << 10,    /* F2/F3 makes it repeat */
    INSN_HIGH_BYTE = 1 << 11,   /* names AH, CH, DH or BH: a REX prefix would change the register */
    INSN_VECTOR = 1 << 12,      /* reads or writes vector, mask, MMX or tile registers */
    INSN_X87 = 1 << 13,
    INSN_SEGMENT_BASE = 1 << 14, /* reads or writes FS/GS base or a segment register */
    INSN_VENDOR = 1 << 15,      /* vendors disagree on length or meaning */
    INSN_STACK_POINTER = 1 << 16, /* names rsp explicitly, as register or in its address */
    INSN_EXTENDED_STATE = 1 << 17, /* stores or loads its own address (fnstenv, fxsave, xsave…) */
    INSN_UNDEFINED_LENGTH = 1 << 18 /* ud0: vendors fetch different lengths */
};

/* General registers are numbered as encoded: rax 0, rcx 1, rdx 2, rbx 3, rsp 4, rbp 5, rsi 6, rdi 7, r8…r31. */
#define REG_NONE 0xff

typedef struct insn {
    uint64_t target;      /* address of a direct branch's target or of a RIP-relative operand; else 0 */
    int64_t imm;          /* first immediate, sign-extended as the instruction uses it; also moffs, far offset */
    int32_t disp;         /* displacement, sign-extended; EVEX disp8*N is already scaled */
    uint32_t attrs;       /* enum insn_attr */
    uint16_t name;        /* number of its name in the opcode tables; insn_mnemonic spells it */
    uint8_t length;       /* bytes, 1..15 */
    uint8_t bits;         /* 64 or 32 */
    uint8_t encoding;     /* enum insn_encoding */
    uint8_t map;          /* enum insn_map */
    uint8_t opcode;
    uint8_t pp;           /* mandatory prefix in effect, numbered as VEX.pp: 0 none, 1 66, 2 F3, 3 F2 */
    uint8_t prefixes;     /* enum insn_prefix */
    uint8_t segment;      /* enum insn_segment */
    uint8_t rex;          /* effective W R X B as 8 4 2 1, un-inverted, from REX, REX2, VEX, EVEX or XOP */
    uint8_t rex_high;     /* EVEX R' as 4; REX2/APX R4 X4 B4 as 4 2 1 */
    uint8_t vvvv;         /* un-inverted, V' as bit 4; 0 where unused */
    uint8_t vector_length; /* VEX.L or EVEX.L'L: 0 128, 1 256, 2 512 */
    uint8_t evex;         /* z, b, aaa as in EVEX byte 3: 0x80 z, 0x10 b, 0x07 aaa */
    uint8_t modrm;
    uint8_t sib;
    uint8_t opcode_off;   /* offsets from the first byte; of the last opcode byte */
    uint8_t modrm_off;    /* 0 where absent; a SIB byte is at modrm_off + 1 */
    uint8_t has_sib;
    uint8_t disp_off;
    uint8_t disp_size;    /* 0, 1, 2, 4 */
    uint8_t imm_off;
    uint8_t imm_size;     /* all immediate bytes: 0, 1, 2, 3 (enter), 4, 6 (far), 8 */
    uint8_t operand_size; /* effective: 1, 2, 4, 8 bytes; of the general-register or memory operand */
    uint8_t address_size; /* 2, 4, 8 */
    uint8_t flow;         /* enum insn_flow */
    uint8_t step;         /* enum insn_step */
    uint8_t prefix_len;   /* legacy prefixes and REX before the opcode, escape or VEX/EVEX/XOP bytes */
    uint8_t reserved[1];
    uint16_t form;        /* of the opcode tables: insn_effects goes by it */
    uint8_t padding[4];
} insn_t;

_Static_assert(sizeof(insn_t) == 64, "insn_t is one cache line");

/* What an instruction touches. GPR masks: bit n is register n, any part of it. Flag masks: EFLAGS bit positions. */
typedef struct effects {
    uint32_t reads;         /* general registers read, implicit ones and address registers included */
    uint32_t writes;        /* general registers written, wholly or in part, perhaps conditionally */
    uint32_t kills;         /* of the written: those whose old 64-bit value no longer matters, always */
    uint32_t flags_read;
    uint32_t flags_written; /* set, cleared or left undefined */
    uint32_t flags_undefined; /* of the written: undefined by the manual */
} effects_t;

/* ---- registers -------------------------------------------------------------------------------- */

/* The kernel's struct user_regs_struct for x86-64, in its order; PTRACE_GETREGS fills it. */
typedef struct regs {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, orig_rax, rip, cs, eflags, rsp, ss,
        fs_base, gs_base, ds, es, fs, gs;
} regs_t;

_Static_assert(sizeof(regs_t) == 27 * 8, "user_regs_struct");

#define EFLAGS_CF 0x0001u
#define EFLAGS_PF 0x0004u
#define EFLAGS_AF 0x0010u
#define EFLAGS_ZF 0x0040u
#define EFLAGS_SF 0x0080u
#define EFLAGS_TF 0x0100u
#define EFLAGS_IF 0x0200u
#define EFLAGS_DF 0x0400u
#define EFLAGS_OF 0x0800u
#define EFLAGS_NT 0x4000u
#define EFLAGS_RF 0x10000u
#define EFLAGS_AC 0x40000u
#define EFLAGS_ID 0x200000u

/* ---- plan ------------------------------------------------------------------------------------- */

#define SLOT_SIZE 32

enum probe_mode { MODE_AUTO, MODE_STEP, MODE_TRAP, MODE_JUMP };

enum rip_strategy { RIP_AUTO, RIP_NONE, RIP_SCRATCH, RIP_SEGMENT, RIP_DISPLACEMENT };

/* The plan byte. Bit 7 clear: the slot is stepped, the other bits say how to repair afterwards.
 * Bit 7 set: no step; the low bits are an enum plan_way. */
#define PLAN_ONE_STOP 0x80u
enum plan_fixup {
    FIX_IP = 0x01,      /* ip is relative to the slot */
    FIX_RETURN = 0x02,  /* the return address pushed is relative to the slot */
    FIX_SCRATCH = 0x04, /* a scratch register held the original next ip */
    FIX_SEGMENT = 0x08, /* the gs base was moved by original - slot */
    FIX_TF = 0x10,      /* the pushed flags image, or r11, carries the stepper's trap flag; or popf loaded it */
    FIX_AGAIN = 0x20,   /* repeats: ip may still be at the slot's start */
    FIX_SYSCALL = 0x40  /* rcx holds the slot's address, and a restart would come back to the slot */
};

/* Ways to get past the instruction with no second stop. */
enum plan_way {
    WAY_BOOST,      /* the slot ends in a jump back; only ip changes at the hit */
    WAY_SKIP,       /* nop, endbr64: ip += length */
    WAY_JMP,        /* direct jmp */
    WAY_JCC,
    WAY_LOOP,
    WAY_CALL,
    WAY_CALL_INDIRECT,
    WAY_JMP_INDIRECT,
    WAY_RET,
    WAY_PUSH,
    WAY_POP,
    WAY_LEA,
    WAY_MOV,        /* register to register, immediate to register */
    WAY_PUSHF,
    WAY_LEAVE,
    WAY_IN_PLACE,   /* the original bytes are put back for one step, all threads stopped */
    WAY_POPF,       /* the slot does it, unless it would set the trap flag */
    WAY_BOOST_UNSTEPPED, /* as WAY_BOOST; but a step would show in what the copy does, or wait for a signal */
    WAY_COUNT
};

/* What a site keeps beside the plan byte, in four bits. With FIX_SCRATCH: the scratch register. With a boost: the
 * rip_strategy asked for, so that the same plan can be made again. Otherwise: the offset of the opcode byte in the
 * original, where the hit reads an operand from it (direct branches, emulation), or OPERAND_NONE. */
#define OPERAND_NONE 15

/* Where the slot must lie. PLACE_BELOW: at a lower address than the site, since PTRACE_SETREGS takes no negative
 * segment base. */
enum plan_place { PLACE_NONE, PLACE_ANY, PLACE_NEAR, PLACE_BELOW };

/* How a slot is laid out. J(x) is a jump to x: 5 bytes within reach, else 6 and the address in the slot's last bytes;
 * neither a register nor a flag changes. */
enum slot_form {
    FORM_NONE,
    FORM_COPY,          /* copy; J(next) */
    FORM_LAST,          /* copy, which never falls through */
    FORM_JUMP,          /* J(target) */
    FORM_BRANCH,        /* copy, over the next jump when taken; J(next); J(target) */
    FORM_CALL,          /* push next; J(target) */
    FORM_CALL_INDIRECT, /* push next; copy, a jmp through the same operand */
    FORM_SYSCALL,       /* copy; mov rcx, next; J(next) */
    FORM_STEP           /* copy; nop for a trap that comes late; int3 */
};

/* Why a site cannot be probed, or not so. Closed; uprobes/refusal.py has one sentence for each. */
enum refusal {
    REFUSAL_NONE,
    REFUSAL_UNDECODABLE,      /* the processor raises #UD, or the decoder does not know the bytes */
    REFUSAL_TRUNCATED,        /* the instruction runs past the end of its mapping */
    REFUSAL_VENDOR,           /* vendors disagree on what the bytes do */
    REFUSAL_TRAPS_ITSELF,     /* int3, int1, int n: a trap of the target's own */
    REFUSAL_ALWAYS_FAULTS,    /* privileged or undefined on purpose: nothing to gain */
    REFUSAL_SHADOW,           /* mov ss, pop ss: traps are held off past it */
    REFUSAL_TRANSACTION,      /* xbegin, xend, xabort */
    REFUSAL_MODE,             /* the forced mode cannot do this instruction */
    REFUSAL_STRATEGY,         /* the forced rip strategy cannot do this instruction */
    REFUSAL_TOO_LONG,         /* the rewritten copy exceeds 15 bytes or the slot */
    REFUSAL_NO_SCRATCH,       /* no register is free */
    REFUSAL_FAR_TRANSFER,     /* far call, far return, iret: changes the code segment */
    REFUSAL_INSIDE,           /* the address is inside an instruction */
    REFUSAL_NOT_EXECUTABLE,   /* no executable mapping there */
    REFUSAL_SHARED,           /* shared mapping: a write would change the file */
    REFUSAL_CHANGED,          /* memory differs from the file: somebody else's patch */
    REFUSAL_OCCUPIED,         /* another site overlaps */
    REFUSAL_NO_ROOM,          /* no address space within reach for a slot */
    REFUSAL_BITS,             /* 32-bit code */
    REFUSAL_RSEQ,             /* inside a restartable sequence */
    REFUSAL_RESTORER,         /* the signal restorer: unwinders recognise its bytes */
    REFUSAL_NO_START,         /* no symbol or unwind entry to decode from */
    /* No jump can be written there; a trap can. */
    REFUSAL_SHORT,            /* fewer than five bytes before the next place where control may come in */
    REFUSAL_LED_INTO,         /* control may come into the middle of the instruction */
    REFUSAL_INDIRECT,         /* the function has a computed jump of which it is not known where it leads */
    REFUSAL_PAGE,             /* five bytes would reach into the next page */
    REFUSAL_FAULTS,           /* an instruction behind the first may fault, and the program handles faults */
    REFUSAL_SYSTEM_CALL,      /* a system call: the kernel remembers where it was made */
    REFUSAL_SIGTRAP,          /* a thread blocks SIGTRAP: a breakpoint would change its mask */
    REFUSAL_SHADOW_STACK,     /* a call, which would push what the processor's shadow stack does not know */
    REFUSAL_COUNT
};

/* How to run one instruction elsewhere. */
typedef struct plan {
    uint8_t kind;        /* the plan byte */
    uint8_t refusal;     /* enum refusal */
    uint8_t place;       /* enum plan_place */
    uint8_t strategy;    /* enum rip_strategy in use */
    uint8_t scratch;     /* register number of RIP_SCRATCH, else REG_NONE */
    uint8_t length;      /* of the original */
    uint8_t copy_length; /* of the rewritten instruction at the slot's start */
    uint8_t slot_length; /* bytes of the slot in use, the jump back included */
    uint8_t original[16];
    uint8_t slot[SLOT_SIZE];
    uint64_t reach_vaddr; /* PLACE_NEAR: the slot must lie within ±2 GiB (less a slot) of this and of the site */
    uint64_t target_vaddr; /* of a direct branch or a RIP-relative operand, else 0 */
    uint8_t operand;       /* four bits, kept by the site: see OPERAND_NONE */
    uint8_t form;          /* enum slot_form */
    uint8_t disp_off;      /* in the copy: of the displacement that depends on the slot, else 0 */
    uint8_t reserved;
    uint8_t copy[20];      /* the rewritten instruction; copy_length bytes, at most 15 */
} plan_t;

/* ---- hit code --------------------------------------------------------------------------------- */

/* A board is memory that the target and we share: a stride of 1 << shift bytes a processor, in order of its number, and
 * one more, which the tracer writes at stops. Everything that one processor writes lies in its stride. */

enum hit_action { HIT_COUNT, HIT_RECORD };

/* A ring, at an offset in the stride: three lines of 64 bytes, then 1 << order records. `head` and `tail` count records
 * in steps of RING_STEP; below that, `head` has how many hits were let go by since the last one that was sampled. */
#define RING_STEP_SHIFT 20
#define RING_STEP (1u << RING_STEP_SHIFT) /* also the most that 1-in-N sampling can have as its N */
#define RING_HEADER 192u
typedef struct ring {
    uint64_t head; /* written by the processor that the ring is of */
    uint64_t lost; /* hits that found the ring full */
    uint64_t hit_line[6];
    uint64_t tail; /* written by the reader */
    uint64_t reader_line[7];
    uint64_t budget; /* of the first stride: hits that are still let through, as a signed number */
    uint64_t board_line[7];
} ring_t;

_Static_assert(sizeof(ring_t) == RING_HEADER, "ring_t");

/* A record; its fields follow, 8 bytes each. */
typedef struct record {
    uint64_t tsc;
    uint32_t tid;
    uint32_t site; /* its number; RECORD_UNREAD: stack fields could not be read and are 0 */
} record_t;

#define RECORD_UNREAD 0x80000000u
#define HIT_FIELDS_MAX 16
#define HIT_STACK_MAX 256 /* words above the stack pointer that a field can name */

enum hit_field_kind { FIELD_REGISTER, FIELD_STACK };

typedef struct hit_field {
    uint8_t kind;     /* enum hit_field_kind */
    uint8_t number;   /* the register, rsp as it is at the hit */
    uint16_t word;    /* FIELD_STACK: the 8 bytes at rsp + 8 * word */
} hit_field_t;

/* What a predicate is compiled to: a program for a stack of 64-bit words. It holds if every OP_TEST finds other than 0. */
enum predicate_code {
    OP_CONSTANT, OP_REGISTER, OP_STACK, OP_TID, /* push `value`, register `value`, word `value` above rsp, the tid */
    OP_INVERT, OP_NEGATE, OP_IS_ZERO, OP_SIGN_8, OP_SIGN_16, OP_SIGN_32, /* replace the top */
    OP_ADD, OP_SUBTRACT, OP_MULTIPLY, OP_DIVIDE, OP_MODULO, /* replace the two on top; by 0 gives 0 */
    OP_AND, OP_OR, OP_XOR, OP_SHIFT_LEFT, OP_SHIFT_RIGHT, OP_SHIFT_SIGNED, /* counts are taken modulo 64 */
    OP_EQUAL, OP_UNEQUAL, OP_LESS, OP_LESS_EQUAL, OP_GREATER, OP_GREATER_EQUAL, /* unsigned; 0 or 1 */
    OP_LESS_SIGNED, OP_LESS_EQUAL_SIGNED, OP_GREATER_SIGNED, OP_GREATER_EQUAL_SIGNED,
    OP_TEST, /* pop; 0: the predicate does not hold */
    OP_CODES
};

#define PREDICATE_OPS_MAX 128
#define PREDICATE_DEPTH_MAX 16

typedef struct predicate_op {
    uint64_t code; /* enum predicate_code */
    uint64_t value;
} predicate_op_t;

/* What is done at a hit. */
typedef struct hitcode {
    uint8_t action; /* enum hit_action */
    uint8_t shift;  /* of the board */
    uint8_t order;  /* of the ring */
    uint8_t reserved;
    uint8_t field_count;
    uint8_t op_count; /* 0: every hit */
    uint16_t board;   /* its literal in the gate page */
    uint32_t offset;  /* in the stride: of the counter or the ring */
    uint32_t budget;  /* in the first stride: of the number of hits that are still let through; 0: no end */
    uint32_t every;   /* HIT_RECORD: one hit in so many; 0 and 1: all */
    uint32_t site;
    hit_field_t fields[HIT_FIELDS_MAX];
    predicate_op_t ops[PREDICATE_OPS_MAX];
} hitcode_t;

/* Where it is done. */
typedef struct hitplace {
    uint64_t gate_vaddr;  /* of the literals; [i] is minus the address of board i, or 0 where it is closed */
    uint32_t dead;        /* general registers whose value no longer matters */
    uint8_t flags_dead;
    uint8_t red_zone;     /* the 128 bytes below rsp may be in use */
    uint8_t has_rseq;     /* every thread has registered a struct rseq, at rseq_offset */
    uint8_t has_rdpid;
    int32_t rseq_offset;  /* from the fs base */
    uint32_t signature;   /* that was registered with it */
    int32_t tid_offset;   /* from the fs base, of the thread's number; 0: not known */
} hitplace_t;

/* The restartable sequences of a stretch of code, by offset in it: nothing has happened before `end`, where everything
 * has. A thread in between cannot be stepped (every stop sends it back to `again`): it is sent to `end`, and the hit done
 * for it. */
typedef struct hit_section {
    uint32_t again; /* where an interrupted sequence begins anew */
    uint32_t start;
    uint32_t end;
    uint32_t descriptor; /* where the displacement of the descriptor's address is */
} hit_section_t;

#define HIT_SECTIONS_MAX 16
typedef struct hit_sections {
    uint32_t count;
    uint32_t signature;
    hit_section_t sections[HIT_SECTIONS_MAX];
} hit_sections_t;

#endif
