/* What every victim shares: the ready protocol and exact reports.
 *
 * A victim prints "ready" when it may be attached to, then waits for an order: a line with a number on its
 * standard input. End of file there means: no more orders, report and leave. Reports are lines "name value".
 * A victim ends by itself when its parent closes the pipe, so none outlives a test. */
#ifndef VICTIM_H
#define VICTIM_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* A function that stands in the binary as written and is called as often as the text says: never inlined or
 * cloned, and no call left out because the compiler knows what it would return. */
#define PROBED __attribute__((noipa, used))

static inline void victim_ready(void)
{
    puts("ready");
    fflush(stdout);
}

/* The next order, or 0 when there are no more. */
static inline long victim_order(void)
{
    char line[64];
    return fgets(line, sizeof line, stdin) ? strtol(line, NULL, 10) : 0;
}

static inline void victim_report(const char *name, uint64_t value)
{
    printf("%s %" PRIu64 "\n", name, value);
    fflush(stdout);
}

static inline uint64_t victim_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#endif
