/* A load of seven bytes that faults each time. The handler checks that it was told of the instruction itself, and goes on
 * right behind it. */
#define _GNU_SOURCE
#include <signal.h>
#include <ucontext.h>

#include "victim.h"

void load(void);
__asm__(".text\n.globl load\n.type load, @function\nload: movq 0x1000(%rax), %rcx\nret\n.size load, . - load\n");

static uint64_t faults, wrong;

static void skip(int number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)number;
    faults++;
    wrong += (uint64_t)registers[REG_RIP] != (uint64_t)load || info->si_addr != (void *)0x1000;
    registers[REG_RIP] += 7;
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = skip, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    victim_ready();
    for (long order; (order = victim_order()) > 0;) {
        for (; order > 0; order--)
            __asm__ volatile("subq $128, %%rsp\ncall load\naddq $128, %%rsp" : : "a"(0) : "rcx", "memory");
        victim_report("done", faults);
    }
    victim_report("faults", faults);
    victim_report("wrong", wrong);
    return 0;
}
