/* Functions that are left in every way. Each order is a number of calls of each of them. */
#include "victim.h"

static uint64_t calls;
static uint64_t (*volatile pointer)(uint64_t);

PROBED uint64_t one_return(uint64_t value)
{
    return value * 3;
}

PROBED uint64_t many_returns(uint64_t value)
{
    if (value % 3 == 0)
        return one_return(value) + 1;
    if (value % 3 == 1)
        return one_return(value + 1) + 2;
    return value;
}

PROBED uint64_t tail_call(uint64_t value)
{
    return one_return(value + 7);
}

PROBED uint64_t tail_call_by_pointer(uint64_t value)
{
    return pointer(value + 1);
}

PROBED uint64_t by_table(uint64_t value)
{
    switch (value % 8) {
    case 0: return one_return(value) ^ 1;
    case 1: return one_return(value + 3) ^ 2;
    case 2: return one_return(value + 9) ^ 3;
    case 3: return one_return(value + 5) ^ 4;
    case 4: return one_return(value + 8) ^ 5;
    case 5: return one_return(value + 2) ^ 6;
    default: return value;
    }
}

__attribute__((cold, noinline)) static void complain(uint64_t value)
{
    calls += value == UINT64_MAX;
}

PROBED uint64_t with_cold_part(uint64_t value)
{
    if (__builtin_expect(value % 4 == 0, 0)) {
        complain(value);
        complain(value + 1);
        return one_return(value) - 1;
    }
    return value + 1;
}

PROBED uint64_t with_cold_part_in_frame(uint64_t value)
{
    uint64_t other = one_return(value);
    if (__builtin_expect(other % 5 == 0, 0)) {
        complain(other);
        complain(value);
        return one_return(value) - other;
    }
    return value + other;
}

int main(void)
{
    uint64_t value = 1;
    pointer = one_return;
    victim_ready();
    for (long order; (order = victim_order()) > 0;) {
        for (long i = 0; i < order; i++) {
            uint64_t seed = (uint64_t)i;
            value ^= one_return(seed) + many_returns(seed) + tail_call(seed) + tail_call_by_pointer(seed);
            value ^= by_table(seed) + with_cold_part(seed) + with_cold_part_in_frame(seed);
        }
        calls += (uint64_t)order;
    }
    victim_report("calls", calls);
    victim_report("value", value);
    return 0;
}
