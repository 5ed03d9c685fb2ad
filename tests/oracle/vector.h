/* Vector state in a signal frame, and the fill and hash of memory. */
#ifndef ORACLE_VECTOR_H
#define ORACLE_VECTOR_H

#include <stdint.h>
#include <ucontext.h>

/* Initial state in every component, but tiles are configured where there is AMX; exceptions masked. */
void vector_clear(fpregset_t state);

/* A fixed pattern: even registers hold small multiples of 64 in every dword (indices that stay in the arena),
 * odd ones have every sign bit set (masks that select every element); x87 is initial, mask registers all ones. */
void vector_fill(fpregset_t state);

uint64_t vector_hash(const struct _libc_fpstate *state);

void fill_words(uint64_t *words, uint64_t count, uint8_t seed);
uint64_t hash_words(const uint64_t *words, uint64_t count);

#endif
