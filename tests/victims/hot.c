/* One small function in a hot loop. Each order is a number of calls; the time that they took is reported. */
#include "victim.h"

static uint64_t calls;

PROBED uint64_t hot(uint64_t value)
{
    return value * 3 + 1;
}

int main(void)
{
    uint64_t value = 1;
    victim_ready();
    for (long order; (order = victim_order()) > 0;) {
        uint64_t start = victim_now_ns();
        for (long i = 0; i < order; i++)
            value = hot(value);
        victim_report("ns", victim_now_ns() - start);
        calls += (uint64_t)order;
    }
    victim_report("hot", calls);
    victim_report("value", value);
    return 0;
}
