/* Log-linear buckets of nanoseconds, as HdrHistogram has them: exact below 256, then 128 buckets for each power of two, so
 * that a bucket is never wider than 1/128 of its values. */
#ifndef UPROBES_HISTOGRAM_H
#define UPROBES_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_HALF_BITS 7
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_HALF_BITS + 1) << HISTOGRAM_HALF_BITS)

static inline uint32_t histogram_bucket(uint64_t value) {
    uint32_t bits = 64 - (uint32_t)__builtin_clzll(value | 1);
    uint32_t shift = bits > HISTOGRAM_HALF_BITS + 1 ? bits - (HISTOGRAM_HALF_BITS + 1) : 0;
    return (shift << HISTOGRAM_HALF_BITS) + (uint32_t)(value >> shift);
}

/* The least value of a bucket. */
static inline uint64_t histogram_start(uint32_t bucket) {
    uint32_t shift = bucket >> HISTOGRAM_HALF_BITS;
    shift = shift ? shift - 1 : 0;
    return (uint64_t)(bucket - (shift << HISTOGRAM_HALF_BITS)) << shift;
}

#endif
