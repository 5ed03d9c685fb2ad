/* One function of a million instructions. Each order is a number of calls. */
#include "victim.h"

#define INSTRUCTIONS "1000000"

uint64_t run(uint64_t value);
__asm__(".globl run\n.type run, @function\nrun:\n"
        ".rept " INSTRUCTIONS "\n    lea 1(%rdi), %rdi\n.endr\n"
        "    mov %rdi, %rax\n    ret\n.size run, . - run\n");

int main(void)
{
    uint64_t value = 0;
    victim_ready();
    for (long order; (order = victim_order()) > 0;) {
        for (long i = 0; i < order; i++)
            value = run(value);
        victim_report("calls", (uint64_t)order);
    }
    victim_report("value", value);
    return 0;
}
