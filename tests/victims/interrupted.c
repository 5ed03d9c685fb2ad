/* Blocking system calls that a handler interrupts: restarted, ended with EINTR, or jumped out of. Each order is a number
 * of rounds. All calls of a kind go through one instruction, the handler's own included. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "victim.h"

#define FUNCTION(name, call) \
    __asm__(".globl " name "\n.type " name ", @function\n" name ":\n" \
            "mov %rdi, %rax\n mov %rsi, %rdi\n mov %rdx, %rsi\n mov %rcx, %rdx\n" call "ret\n" \
            ".size " name ", . - " name "\n")

/* The system call `number`; its result as the kernel gives it. */
long plain_call(long number, long a, const void *b, long c);
extern const char plain_call_after[];
FUNCTION("plain_call", "syscall\n .globl plain_call_after\n plain_call_after:\n");

/* The same with a prefix that does nothing: the kernel restarts it behind the prefix. */
long prefixed_call(long number, long a, const void *b, long c);
FUNCTION("prefixed_call", ".byte 0x48\n syscall\n");

/* The same by the older way in; ebx is the first argument there. */
long old_call(long number, long a);
__asm__(".globl old_call\n.type old_call, @function\nold_call:\n"
        "push %rbx\n mov %rdi, %rax\n mov %rsi, %rbx\n int $0x80\n pop %rbx\n ret\n.size old_call, . - old_call\n");

enum { NEXT_MS = 3, PAUSE_32 = 29 };

static int pipe_ends[2];
static volatile int owed; /* bytes that the handler writes into the pipe at its next tick */
static volatile int jumps;
static sigjmp_buf out;
static uint64_t plain_calls; /* of the handler, too */
static volatile uint64_t prefixed_calls, old_calls, ticks;

static long plain(long number, long a, const void *b, long c)
{
    __atomic_fetch_add(&plain_calls, 1, __ATOMIC_RELAXED);
    return plain_call(number, a, b, c);
}

static long prefixed(long number, long a, const void *b, long c)
{
    prefixed_calls++;
    return prefixed_call(number, a, b, c);
}

static void on_tick(int signal, siginfo_t *info, void *context)
{
    const greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)signal;
    (void)info;
    ticks++;
    plain(SYS_getpid, 0, NULL, 0);
    if (owed && ticks % 2 == 0) {
        owed = 0;
        plain(SYS_write, pipe_ends[1], "x", 1);
    }
    if (jumps && registers[REG_RIP] == (greg_t)plain_call_after && registers[REG_RAX] == -EINTR) {
        jumps = 0;
        siglongjmp(out, 1);
    }
}

static void handle(int flags)
{
    struct sigaction action = {.sa_sigaction = on_tick, .sa_flags = SA_SIGINFO | flags};
    sigaction(SIGALRM, &action, NULL);
}

static uint64_t round_of_calls(void)
{
    const struct timespec nap = {0, 1000000};
    volatile uint64_t wrong = 0;
    char byte = 0;

    handle(0);
    wrong += plain(SYS_read, pipe_ends[0], &byte, 1) != -EINTR;
    wrong += prefixed(SYS_read, pipe_ends[0], &byte, 1) != -EINTR;

    handle(SA_RESTART);
    owed = 1;
    wrong += plain(SYS_read, pipe_ends[0], &byte, 1) != 1 || byte != 'x';
    owed = 1;
    wrong += prefixed(SYS_read, pipe_ends[0], &byte, 1) != 1;

    /* Never restarted once a handler has run, whatever it asked for. */
    wrong += plain(SYS_pause, 0, NULL, 0) != -EINTR;
    wrong += prefixed(SYS_pause, 0, NULL, 0) != -EINTR;
    old_calls++;
    wrong += old_call(PAUSE_32, 0) != -EINTR;

    /* Ended by its own time or by a tick: both are right. */
    const long slept = plain(SYS_nanosleep, (long)&nap, NULL, 0);
    wrong += slept != 0 && slept != -EINTR;

    if (sigsetjmp(out, 1) == 0) {
        jumps = 1;
        for (;;)
            plain(SYS_pause, 0, NULL, 0);
    }
    return wrong;
}

int main(void)
{
    const struct itimerval timer = {{0, NEXT_MS * 1000}, {0, NEXT_MS * 1000}}, none = {{0, 0}, {0, 0}};
    uint64_t wrong = 0;
    if (pipe(pipe_ends))
        return 1;
    victim_ready();
    for (long order; (order = victim_order()) > 0;) {
        setitimer(ITIMER_REAL, &timer, NULL);
        for (long i = 0; i < order; i++)
            wrong += round_of_calls();
        setitimer(ITIMER_REAL, &none, NULL);
        victim_report("rounds", (uint64_t)order);
    }
    victim_report("wrong", wrong);
    victim_report("plain_call", plain_calls);
    victim_report("prefixed_call", prefixed_calls);
    victim_report("old_call", old_calls);
    return 0;
}
