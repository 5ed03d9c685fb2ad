/* A function that the loader chooses, in the program itself, and one of libc's. Each order is a number of calls of both. */
#include <string.h>

#include "victim.h"

static uint64_t calls;

PROBED uint64_t plain_chosen(uint64_t value)
{
    return value + 1;
}

PROBED uint64_t other_chosen(uint64_t value)
{
    return value + 2;
}

static uint64_t (*choose(void))(uint64_t)
{
    return plain_chosen;
}

uint64_t chosen(uint64_t value) __attribute__((ifunc("choose")));

int main(void)
{
    static char from[4096], to[4096];
    void *(*volatile copy)(void *, const void *, size_t) = memcpy; /* the compiler must not know it */
    uint64_t value = 0;
    victim_ready();
    for (long order; (order = victim_order()) > 0;) {
        for (long i = 0; i < order; i++) {
            copy(to, from, 512 + value % 1024);
            value = chosen(value);
        }
        calls += (uint64_t)order;
    }
    victim_report("chosen", calls);
    victim_report("other", other_chosen(value) - value);
    return 0;
}
