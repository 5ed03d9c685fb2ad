/* The processor's time stamp counter, read as hit code reads it, and CLOCK_MONOTONIC. */
#ifndef UPROBES_CLOCK_H
#define UPROBES_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_tsc(void) { return __builtin_ia32_rdtsc(); }

static inline uint64_t clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* (value * numerator / denominator), with all 128 bits in between; for a negative value too. 0 where it is divided by 0. */
static inline int64_t clock_scale(int64_t value, uint64_t numerator, uint64_t denominator) {
    return denominator ? (int64_t)((__int128)value * (__int128)numerator / (__int128)denominator) : 0;
}

/* The same by a fraction of 32 bits: numerator / denominator << 32 was worked out before. */
static inline int64_t clock_multiply(int64_t value, uint64_t fraction) {
    return (int64_t)(((__int128)value * (__int128)fraction) >> 32);
}

#endif
