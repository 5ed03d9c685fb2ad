/* Runs until its standard input ends: a target that is busy for as long as a test wants. One thread spins
 * through `work`, the main thread sleeps in a read. */
#include <pthread.h>
#include <stdatomic.h>

#include "victim.h"

static atomic_int stop;
static uint64_t calls;

PROBED uint64_t work(uint64_t value)
{
    return (value ^ 0x9e37) * 5;
}

static void *spin(void *value)
{
    uint64_t x = 7;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        x = work(x);
        calls++;
    }
    *(uint64_t *)value = x;
    return NULL;
}

int main(void)
{
    pthread_t thread;
    uint64_t value = 0;
    if (pthread_create(&thread, NULL, spin, &value))
        return 1;
    victim_ready();
    while (victim_order() > 0)
        continue;
    atomic_store(&stop, 1);
    pthread_join(thread, NULL);
    victim_report("work", calls);
    return value == 0;
}
