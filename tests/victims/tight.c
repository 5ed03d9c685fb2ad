/* Functions whose first bytes are a trap for whoever replaces five of them. Each order is a number of calls of each. */
#include "victim.h"

uint64_t loop_back(uint64_t), one_byte(uint64_t), behind(uint64_t), tabled(uint64_t), roomy(uint64_t);

/* loop_back: jumps to its second instruction, inside the five bytes. one_byte: a function of one byte, with the next one
 * right behind it. tabled: a jump table leads into its first five bytes. roomy: has all that a jump needs. */
__asm__(".text\n"
        ".globl loop_back\n.type loop_back, @function\n"
        "loop_back: movl %edi, %eax\n1: addl $1, %eax\ntestl $3, %eax\njne 1b\nret\n"
        ".size loop_back, . - loop_back\n"
        ".globl one_byte\n.type one_byte, @function\none_byte: ret\n.size one_byte, . - one_byte\n"
        ".globl behind\n.type behind, @function\nbehind: leaq 1(%rdi,%rdi), %rax\nret\n.size behind, . - behind\n"
        ".globl tabled\n.type tabled, @function\n"
        "tabled: movl %edi, %eax\n2: incl %eax\ntestl $1, %eax\njne 3f\nleaq table(%rip), %rdx\n"
        "movslq (%rdx), %rcx\naddq %rdx, %rcx\njmp *%rcx\n3: ret\n"
        ".size tabled, . - tabled\n"
        ".section .rodata\n.p2align 2\ntable: .long 2b - table\n.text\n"
        ".globl roomy\n.type roomy, @function\nroomy: leaq 0x1234(%rdi), %rax\nret\n.size roomy, . - roomy\n");

int main(void)
{
    uint64_t sum = 0, calls = 0;
    victim_ready();
    for (long order; (order = victim_order()) > 0;) {
        for (long i = 0; i < order; i++, calls++)
            sum += loop_back(calls) + one_byte(calls) * 0 + behind(calls) + tabled(calls) + roomy(calls);
        victim_report("calls", calls);
    }
    victim_report("sum", sum);
    return 0;
}
