/* A counter that is added to in a transaction, or under the fallback where that aborts. Each order is a number of
 * additions. Runs only where the processor has RTM. */
#include "victim.h"

static uint64_t counter, committed, fell_back;

/* 1 when the transaction committed. */
uint64_t add(uint64_t *counter);
__asm__(".globl add\n.type add, @function\nadd:\n"
        "    mov $-1, %eax\n"
        "    xbegin 1f\n"
        "    incq (%rdi)\n"
        "    xend\n"
        "    mov $1, %eax\n"
        "    ret\n"
        "1:  lock incq (%rdi)\n"
        "    xor %eax, %eax\n"
        "    ret\n"
        ".size add, . - add\n");

int main(void)
{
    victim_ready();
    for (long order; (order = victim_order()) > 0;) {
        for (long i = 0; i < order; i++)
            *(add(&counter) ? &committed : &fell_back) += 1;
        victim_report("added", (uint64_t)order);
    }
    victim_report("counter", counter);
    victim_report("committed", committed);
    victim_report("fell_back", fell_back);
    return 0;
}
