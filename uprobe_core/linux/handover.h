/* futex(2) without errno: two tasks that share one thread-local storage must not write to it while one of them waits. */
#ifndef UPROBES_HANDOVER_H
#define UPROBES_HANDOVER_H

#include <errno.h>
#include <linux/futex.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

static inline long futex_call(int *word, long operation, long value) {
    register long timeout __asm__("r10") = 0;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"((long)SYS_futex), "D"(word), "S"(operation), "d"(value), "r"(timeout)
                     : "rcx", "r11", "memory");
    return result;
}

/* Sleeps while *word is `value`, at most until CLOCK_MONOTONIC is at_ns (0: for ever). Whether the time came. */
static inline int futex_wait_until(int *word, int value, uint64_t at_ns) {
    struct timespec at = {(time_t)(at_ns / 1000000000u), (long)(at_ns % 1000000000u)};
    register void *timeout __asm__("r10") = at_ns ? &at : 0;
    register long second __asm__("r8") = 0;
    register long mask __asm__("r9") = FUTEX_BITSET_MATCH_ANY;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"((long)SYS_futex), "D"(word), "S"((long)FUTEX_WAIT_BITSET), "d"((long)value), "r"(timeout),
                       "r"(second), "r"(mask)
                     : "rcx", "r11", "memory");
    return result == -ETIMEDOUT;
}

/* Sleeps while *word is `value`. Returns at once when it is not, and on a signal. */
static inline void futex_wait(int *word, int value) { futex_call(word, FUTEX_WAIT, value); }
static inline void futex_wake(int *word) { futex_call(word, FUTEX_WAKE, 1); }

static inline int word_load(const int *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
static inline void word_store(int *word, int value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }
static inline int word_exchange_if(int *word, int before, int after) {
    return __atomic_compare_exchange_n(word, &before, after, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

#endif
