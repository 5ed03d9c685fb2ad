/* Two instructions that fault each time: a load from address 0 and a division by zero. The handler checks that it was told
 * of the instruction itself, and goes on behind it. */
#define _GNU_SOURCE
#include <signal.h>
#include <ucontext.h>

#include "victim.h"

void load(void);
void divide(void);
__asm__(".text\n.globl load\n.type load, @function\nload: movq (%rax), %rcx\nret\n.size load, . - load\n"
        ".globl divide\n.type divide, @function\ndivide: divl %ecx\nret\n.size divide, . - divide\n");

static uint64_t faults, wrong;

static void skip(int number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    uint64_t ip = (uint64_t)registers[REG_RIP];
    faults++;
    wrong += number == SIGSEGV ? ip != (uint64_t)load || info->si_addr != 0
                               : ip != (uint64_t)divide || info->si_addr != (void *)divide;
    registers[REG_RIP] += number == SIGSEGV ? 3 : 2;
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = skip, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGFPE, &action, NULL);
    victim_ready();
    for (long order; (order = victim_order()) > 0;) {
        for (; order > 0; order--) {
            __asm__ volatile("call load" : : "a"(0) : "rcx", "memory");
            __asm__ volatile("call divide" : : "a"(1), "c"(0), "d"(0) : "memory");
        }
        victim_report("done", faults);
    }
    victim_report("faults", faults);
    victim_report("wrong", wrong);
    return 0;
}
