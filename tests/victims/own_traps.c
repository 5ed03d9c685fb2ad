/* Handles SIGTRAP itself: in each round it raises one by int3, one by raise() and one by its own trap flag, and its handler
 * looks at what it is told. */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <ucontext.h>

#include "victim.h"

static volatile uint64_t caught, wrong;
static volatile int expected_code;
extern const char after_int3[];

PROBED uint64_t work(uint64_t value)
{
    return (value ^ 0x9e37) * 5 + (value >> 3);
}

static void handle(int signal, siginfo_t *info, void *context)
{
    ucontext_t *state = context;
    caught++;
    if (signal != SIGTRAP || info->si_code != expected_code)
        wrong++;
    if (info->si_code == SI_KERNEL && state->uc_mcontext.gregs[REG_RIP] != (greg_t)after_int3)
        wrong++;
    state->uc_mcontext.gregs[REG_EFL] &= ~0x100;
}

int main(void)
{
    struct sigaction mine = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO}, now;
    uint64_t value = 1;
    sigaction(SIGTRAP, &mine, NULL);
    victim_ready();
    for (long order; (order = victim_order()) > 0;) {
        for (long i = 0; i < order; i++) {
            value = work(value);
            expected_code = SI_KERNEL;
            __asm__ volatile("int3\n.globl after_int3\nafter_int3:" ::: "memory");
            expected_code = SI_TKILL;
            raise(SIGTRAP);
            expected_code = TRAP_TRACE;
            __asm__ volatile("pushfq\n orl $0x100, (%%rsp)\n popfq\n nop" ::: "memory", "cc");
        }
        puts("done");
        fflush(stdout);
    }
    sigaction(SIGTRAP, NULL, &now);
    victim_report("mine", now.sa_sigaction == handle && (now.sa_flags & ~0x04000000) == SA_SIGINFO);
    victim_report("caught", caught);
    victim_report("wrong", wrong);
    return value == 0;
}
