/* Spins until it is told how to die of SIGTRAP: 1 by int3, 2 by raise(), 3 by its own trap flag. */
#include <pthread.h>
#include <signal.h>

#include "victim.h"

PROBED uint64_t work(uint64_t value)
{
    return (value ^ 0x9e37) * 5;
}

static void *spin(void *unused)
{
    uint64_t x = 7;
    for (;;)
        x = work(x);
    return unused;
}

int main(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, spin, NULL))
        return 1;
    victim_ready();
    switch (victim_order()) {
    case 1:
        __asm__ volatile("int3");
        break;
    case 2:
        raise(SIGTRAP);
        break;
    case 3:
        __asm__ volatile("pushfq\n orl $0x100, (%%rsp)\n popfq\n nop" ::: "memory", "cc");
        break;
    default:
        break;
    }
    return 3;
}
