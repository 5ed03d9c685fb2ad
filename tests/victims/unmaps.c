/* Calls `work` as often as it is told. Two negative orders name an address and a size, which it unmaps. */
#include <sys/mman.h>

#include "victim.h"

static uint64_t calls;

PROBED uint64_t work(uint64_t value)
{
    return (value ^ 0x51ed) * 3;
}

int main(void)
{
    uint64_t value = 1;
    long order;
    victim_ready();
    while ((order = victim_order()) != 0) {
        if (order > 0) {
            for (; order > 0; order--, calls++)
                value = work(value);
        } else {
            long size = -victim_order();
            printf("unmapped %d\n", munmap((void *)-order, (size_t)size));
            fflush(stdout);
        }
    }
    victim_report("work", calls);
    return value == 0;
}
