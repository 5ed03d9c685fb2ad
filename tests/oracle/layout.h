/* The address space that judged instructions run in, and the records that cross between Python, the
 * supervisor and the sandbox.
 *
 * Everything that a judged instruction can reach lies below 4 GiB: registers, segment bases and the
 * instruction pointer all start there, and a displacement adds at most 2 GiB. The oracle's own text, data
 * and stacks lie far above (it is position independent), so no store lands on them.
 */
#ifndef ORACLE_LAYOUT_H
#define ORACLE_LAYOUT_H

#include <stdint.h>

#define CODE_PAGE 0x10000000ul           /* executable, not writable; instructions end at its end */
#define GUARD_PAGE (CODE_PAGE + 0x1000)  /* readable and writable, never executable */
#define ARENA 0x20007000ul               /* data: all general registers point into it; put back before every run */
#define ARENA_SIZE 0x3000ul

#define CODE_BYTES 16
#define MAX_LENGTH 15

/* Hints of a judge record. */
#define HINT_NEXT 1u        /* control goes to the next instruction: the guard page stops it, no trap flag needed */
#define HINT_EXACT 2u       /* find how many bytes were fetched even when the outcome is #UD */
#define HINT_LOWER_BOUND 4u /* do not run it whole: only show that claim - 1 bytes are too few */
#define HINT_PTRACE 8u      /* judge by single-stepping a traced process, not in the sandbox */

/* Outcomes 0 to 31 are exception vectors (SDM vol. 3, 6.3.1); #DB is the trap flag: it executed. */
enum outcome {
    OUT_DE = 0,
    OUT_EXECUTED = 1,
    OUT_BREAKPOINT = 3,
    OUT_OVERFLOW = 4,
    OUT_UD = 6,
    OUT_GP = 13,
    OUT_PF = 14,
    OUT_NOT_RUN = 32, /* HINT_LOWER_BOUND: claim - 1 bytes were too few */
    OUT_TOO_FEW = 33, /* a fetch beyond 15 bytes was tried: never seen */
    OUT_HUNG = 34,    /* no answer in time */
    OUT_DIED = 35     /* the process that ran it is gone */
};

struct judge_in {
    uint8_t code[CODE_BYTES];
    uint8_t claim; /* length that the decoder claims; 0: it refuses */
    uint8_t bits;  /* 64 or 32 */
    uint8_t hint;
    uint8_t pad;
};

struct judge_out {
    uint8_t length;  /* smallest number of bytes with no fetch beyond them; 0 where not looked for */
    uint8_t outcome; /* enum outcome */
    uint8_t runs;
    uint8_t pad;
    int32_t moved; /* ip afterwards, relative to the first byte (low 32 bits) */
};

#define GPR_COUNT 16 /* rax rcx rdx rbx rsp rbp rsi rdi r8 … r15: numbered as encoded */

struct execute_in {
    uint8_t code[CODE_BYTES];
    uint8_t length;
    uint8_t bits;
    uint8_t fill; /* seed of the bytes in the arena */
    uint8_t step; /* with the trap flag; else the guard page stops it, and what repeats runs to its end */
    uint8_t pad[4];
    uint64_t eflags;
    uint64_t gpr[GPR_COUNT];
};

struct execute_out {
    uint64_t gpr[GPR_COUNT];
    uint64_t eflags; /* without the trap flag */
    int64_t moved;
    uint64_t memory; /* hash of the arena */
    uint64_t vector; /* hash of x87, SSE, AVX and AVX-512 state */
    uint8_t outcome;
    uint8_t stop; /* the exception that ended the run: #DB, or #PF where the guard page did */
    uint8_t pad[6];
};

_Static_assert(sizeof(struct judge_in) == 20, "numpy's dtype in oracle.py");
_Static_assert(sizeof(struct judge_out) == 8, "numpy's dtype in oracle.py");
_Static_assert(sizeof(struct execute_in) == 160, "numpy's dtype in oracle.py");
_Static_assert(sizeof(struct execute_out) == 168, "numpy's dtype in oracle.py");

#endif
