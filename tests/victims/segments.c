/* A program whose segment registers and bases are as few others have them: null selectors with a privilege level, a gs
 * base in the upper half, the trap-free life of a thread whose fs base is its own. Each order is a number of rounds;
 * "wrong" counts what was not as it must be. */
#define _GNU_SOURCE
#include <sys/auxv.h>

#include "victim.h"

#ifndef HWCAP2_FSGSBASE
#define HWCAP2_FSGSBASE (1 << 1)
#endif

/* Touches what every kind of plan repairs: an operand by rip, a call, the flags image, a repeated string. */
uint64_t work(uint64_t value, uint64_t *place);
__asm__(".globl work\n.type work, @function\nwork:\n"
        "mov step(%rip), %rax\n add %rdi, %rax\n call 1f\n pushfq\n pop %rdx\n mov $1, %ecx\n"
        "mov %rsi, %rdi\n rep stosq\n ret\n 1: inc %rax\n ret\n.size work, . - work\n"
        ".pushsection .rodata\n.balign 8\nstep: .quad 3\n.popsection\n");

enum { ROUND_SELECTORS = 4 };
static const uint64_t upper = 0xffff800000001000;
static uint64_t calls;

static uint64_t call_work(uint64_t value)
{
    uint64_t place = 0;
    calls++;
    return work(value, &place) != value + 4 || place != value + 4;
}

/* ds, es and gs null with privilege level `level`; fs stays, it holds the thread's own storage. The processor may store
 * such a selector as 0 whenever it returns from the kernel. */
static uint64_t null_selectors(unsigned int level)
{
    unsigned int ds, es;
    uint64_t wrong;
    __asm__ volatile("mov %0, %%ds\n mov %0, %%es\n mov %0, %%gs" ::"r"(level));
    wrong = call_work(level);
    __asm__ volatile("mov %%ds, %0\n mov %%es, %1" : "=r"(ds), "=r"(es));
    wrong += (ds != level && ds != 0) || (es != level && es != 0);
    __asm__ volatile("mov %0, %%ds\n mov %0, %%es\n mov %0, %%gs" ::"r"(0));
    return wrong;
}

static uint64_t upper_base(void)
{
    uint64_t wrong, base;
    __asm__ volatile("wrgsbase %0" ::"r"(upper));
    wrong = call_work(9);
    __asm__ volatile("rdgsbase %0" : "=r"(base));
    wrong += base != upper;
    __asm__ volatile("wrgsbase %0" ::"r"(0l));
    return wrong;
}

int main(void)
{
    const int has_bases = (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE) != 0;
    uint64_t wrong = 0;
    victim_ready();
    for (long order; (order = victim_order()) > 0;) {
        for (long i = 0; i < order; i++) {
            for (unsigned int level = 0; level < ROUND_SELECTORS; level++)
                wrong += null_selectors(level);
            if (has_bases)
                wrong += upper_base();
        }
        victim_report("rounds", (uint64_t)order);
    }
    victim_report("wrong", wrong);
    victim_report("work", calls);
    return 0;
}
