/* Functions with known arguments: registers, stack, strings, recursion, varargs, floating point, and a few
 * whose first instructions are not a compiler's usual ones. Each order is a number of rounds. */
#include <stdarg.h>
#include <string.h>

#include "victim.h"

static uint64_t sum;

PROBED int add(int a, int b)
{
    return a + b;
}

PROBED uint64_t six(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f;
}

PROBED uint64_t eight(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    return six(a, b, c, d, e, f) + 7 * g + 8 * h;
}

PROBED size_t greet(const char *name)
{
    return strlen(name) + sum % 2;
}

PROBED uint64_t factorial(uint64_t n)
{
    uint64_t rest = n < 2 ? 1 : factorial(n - 1);
    __asm__ volatile("" : "+r"(rest)); /* keeps the recursion from becoming a loop */
    return n < 2 ? 1 : n * rest;
}

PROBED long total(int count, ...)
{
    long result = 0;
    va_list list;
    va_start(list, count);
    for (int i = 0; i < count; i++)
        result += va_arg(list, long);
    va_end(list);
    return result;
}

PROBED double scale(double value, int power)
{
    while (power-- > 0)
        value *= 2.0;
    return value;
}

/* Starts with a load through rip. */
PROBED uint64_t load_sum(void)
{
    return sum;
}

/* Starts with a jump over padding; ends in an indirect jump. */
PROBED uint64_t jump_first(uint64_t n);
__asm__(".globl jump_first\n"
        ".type jump_first, @function\n"
        "jump_first:\n"
        "    jmp 1f\n"
        "    .skip 8, 0x90\n"
        "1:  lea 7(%rdi), %rax\n"
        "    pop %rdx\n"
        "    jmp *%rdx\n"
        ".size jump_first, . - jump_first\n");

/* A counted loop of every kind of short branch: jrcxz, loop, jcc. Adds 1 + ... + n. */
PROBED uint64_t loops(uint64_t n);
__asm__(".globl loops\n"
        ".type loops, @function\n"
        "loops:\n"
        "    mov %rdi, %rcx\n"
        "    xor %eax, %eax\n"
        "    jrcxz 2f\n"
        "1:  add %rcx, %rax\n"
        "    loop 1b\n"
        "2:  test %rax, %rax\n"
        "    jz 3f\n"
        "    nop\n"
        "3:  ret\n"
        ".size loops, . - loops\n");

int main(void)
{
    const char *names[] = {"world", "", "a name that is rather longer than one cache line of sixty-four bytes, on purpose"};
    uint64_t rounds = 0;
    victim_ready();
    for (long order; (order = victim_order()) > 0;) {
        for (long i = 0; i < order; i++, rounds++) {
            sum += (uint64_t)add(40, 2);
            sum += six(1, 2, 3, 4, 5, 6);
            sum += eight(1, 2, 3, 4, 5, 6, 7, 8);
            sum += greet(names[rounds % 3]);
            sum += factorial(5);
            sum += (uint64_t)total(4, 10L, 20L, 30L, 40L);
            sum += (uint64_t)scale(1.5, 3);
            sum += load_sum() & 1;
            sum += jump_first(rounds);
            sum += loops(rounds % 5);
        }
        victim_report("rounds", rounds);
    }
    victim_report("sum", sum);
    return 0;
}
