/* Ten thousand functions, function_0 to function_9999, or FUNCTIONS of them. Each order is a number of rounds; a round
 * calls every one of them. */
#include "victim.h"

#ifndef FUNCTIONS
#define FUNCTIONS 10000
#endif
#define TEXT(number) #number
#define REPEAT(number) ".rept " TEXT(number) "\n"

/* By the assembler: a compiler takes seconds for as many. */
__asm__(".altmacro\n"
        ".macro define n\n"
        "    .globl function_\\n\n"
        "    .type function_\\n, @function\n"
        "function_\\n:\n"
        "    lea \\n(%rdi,%rdi,2), %rax\n"
        "    shr $3, %rdi\n"
        "    xor %rdi, %rax\n"
        "    ret\n"
        "    .size function_\\n, . - function_\\n\n"
        ".endm\n"
        ".macro entry n\n"
        "    .quad function_\\n\n"
        ".endm\n"
        ".text\n"
        ".set i, 0\n"
        REPEAT(FUNCTIONS)
        "    define %i\n"
        "    .set i, i + 1\n"
        ".endr\n"
        ".section .data.rel.ro, \"aw\"\n"
        "functions:\n"
        ".set i, 0\n"
        REPEAT(FUNCTIONS)
        "    entry %i\n"
        "    .set i, i + 1\n"
        ".endr\n"
        ".text\n");

extern uint64_t (*const functions[FUNCTIONS])(uint64_t) __attribute__((visibility("hidden")));

int main(void)
{
    uint64_t value = 1, rounds = 0;
    victim_ready();
    for (long order; (order = victim_order()) > 0;) {
        for (long i = 0; i < order; i++)
            for (size_t f = 0; f < FUNCTIONS; f++)
                value = functions[f](value);
        victim_report("rounds", rounds += (uint64_t)order);
    }
    victim_report("value", value);
    return 0;
}
