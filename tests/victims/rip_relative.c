/* One small function in a hot loop whose first instruction reads through rip. Each order is a number of calls; the time
 * that they took is reported. */
#include "victim.h"

uint64_t load(uint64_t value);
__asm__(".globl load\n"
        ".type load, @function\n"
        "load:\n"
        "    mov step(%rip), %rax\n"
        "    add %rdi, %rax\n"
        "    ret\n"
        ".size load, . - load\n"
        ".pushsection .rodata\n"
        ".balign 8\n"
        "step: .quad 3\n"
        ".popsection\n");

int main(void)
{
    uint64_t value = 0;
    victim_ready();
    for (long order; (order = victim_order()) > 0;) {
        uint64_t start = victim_now_ns();
        for (long i = 0; i < order; i++)
            value = load(value);
        victim_report("ns", victim_now_ns() - start);
    }
    victim_report("value", value);
    return 0;
}
