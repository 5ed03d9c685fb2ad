/* The words of a ring that two processes use at the same time. */
#ifndef UPROBES_RING_WORDS_H
#define UPROBES_RING_WORDS_H

#include <stdint.h>

/* Partners: ring_word_load of `head` sees all that was stored before the store that ends a hit's sequence (x86 keeps
 * stores in order); ring_word_store of `tail` comes after the loads of the records that it gives back. */
static inline uint64_t ring_word_load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
static inline void ring_word_store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

/* One hit less of a budget; what was left of it before, less one: negative when it was used up. Its partner is hit code's own
 * locked subtraction. A used-up budget is not taken from. */
static inline int64_t ring_word_take(uint64_t *word) {
    if ((int64_t)ring_word_load(word) <= 0)
        return -1;
    return (int64_t)__atomic_sub_fetch(word, 1, __ATOMIC_RELAXED);
}

#endif
