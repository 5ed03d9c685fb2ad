/* Functions whose calls are easy to tell: known arguments, recursion, calls left by longjmp, threads. Each order is a number
 * of rounds, done by four threads in turn. */
#include <pthread.h>
#include <setjmp.h>
#include <time.h>

#include "victim.h"

static __thread jmp_buf back;

PROBED uint64_t seven(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g)
{
    return a + b + c + d + e + f + g;
}

PROBED uint64_t recurse(uint64_t depth)
{
    if (depth == 0)
        return 1;
    uint64_t below = recurse(depth - 1);
    __asm__ volatile("" ::: "memory");
    return below + 1;
}

PROBED uint64_t perhaps(uint64_t value)
{
    if (value % 2)
        longjmp(back, 1);
    __asm__ volatile("" ::: "memory");
    return value;
}

PROBED void nap(uint64_t microseconds)
{
    struct timespec time = {0, (long)microseconds * 1000};
    nanosleep(&time, NULL);
    __asm__ volatile("" ::: "memory");
}

static void *rounds(void *argument)
{
    uint64_t count = (uint64_t)argument;
    volatile uint64_t sum = 0;
    for (volatile uint64_t i = 0; i < count; i++) {
        sum = sum + seven(i, i + 1, i + 2, i + 3, i + 4, i + 5, i + 6);
        sum = sum + recurse(5);
        if (!setjmp(back))
            sum = sum + perhaps(i);
        nap(300);
    }
    return (void *)(uintptr_t)sum;
}

int main(void)
{
    victim_ready();
    for (long order; (order = victim_order()) > 0;) {
        pthread_t threads[4];
        for (int i = 0; i < 4; i++)
            pthread_create(&threads[i], NULL, rounds, (void *)order);
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
        victim_report("rounds", 4 * (uint64_t)order);
    }
    return 0;
}
