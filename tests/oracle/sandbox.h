/* The sandbox: a child that runs judged instructions in itself, one signal a run.
 *
 * Its signal handler is the whole program: it reads what the last run did from the signal frame, writes the
 * next run's registers into the same frame, and returns into the judged instruction. One run costs a signal
 * delivery and a sigreturn, a tenth of what ptrace takes. Judged code does not keep control: the trap flag or
 * the guard page ends it; and it reaches nothing of ours: the handler has its own stack, far away, and
 * seccomp turns every system call but the sandbox's own into ENOSYS.
 */
#ifndef ORACLE_SANDBOX_H
#define ORACLE_SANDBOX_H

#include <stdint.h>

#include "layout.h"

#define BATCH_MAX 65536u

enum batch_kind { BATCH_JUDGE = 'J', BATCH_EXECUTE = 'X' };

/* Shared by supervisor and sandbox. The sandbox writes `current` and the out records only. */
struct batch {
    uint32_t kind; /* enum batch_kind */
    uint32_t first;
    uint32_t count;
    volatile uint32_t current; /* the record in work: the one to blame when the sandbox dies */
    union {
        struct {
            struct judge_in in[BATCH_MAX];
            struct judge_out out[BATCH_MAX];
        } judge;
        struct {
            struct execute_in in[BATCH_MAX];
            struct execute_out out[BATCH_MAX];
        } execute;
    };
};

/* Never returns. Reads one byte from `go` for every batch, writes one byte to `done` after it. */
_Noreturn void sandbox_serve(struct batch *batch, int go, int done);

#endif
