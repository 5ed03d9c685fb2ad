/* A library whose constructor calls `forward` once. FACTOR makes several that differ in one instruction's bytes. */
#include "victim.h"

PROBED uint64_t forward(uint64_t value)
{
    return value * FACTOR + 1;
}

__attribute__((constructor)) static void begin(void)
{
    static volatile uint64_t value;
    value = forward(value);
}
