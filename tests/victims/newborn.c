/* Threads that are born and die all the time. Each order is a number of threads; each of them calls `work` ten times
 * and starts, before it ends, one child of its own that calls it ten times too. */
#include <pthread.h>
#include <stdatomic.h>

#include "victim.h"

static _Atomic uint64_t calls, sum;

PROBED uint64_t work(uint64_t value)
{
    return value * 7 + 3;
}

static void run_calls(uint64_t value)
{
    for (int i = 0; i < 10; i++) {
        atomic_fetch_add(&calls, 1);
        value = work(value);
    }
    atomic_fetch_add(&sum, value);
}

static void *run_child(void *value)
{
    run_calls((uint64_t)value);
    return NULL;
}

static void *run_thread(void *value)
{
    pthread_t child;
    run_calls((uint64_t)value);
    if (pthread_create(&child, NULL, run_child, (void *)((uint64_t)value + 1)))
        abort();
    pthread_join(child, NULL);
    return NULL;
}

int main(void)
{
    pthread_t threads[4];
    victim_ready();
    for (long order; (order = victim_order()) > 0;) {
        for (long i = 0; i < order; i += 4) {
            for (long t = 0; t < 4; t++)
                if (pthread_create(&threads[t], NULL, run_thread, (void *)(i + t)))
                    return 1;
            for (long t = 0; t < 4; t++)
                pthread_join(threads[t], NULL);
        }
        victim_report("threads", (uint64_t)order);
    }
    victim_report("work", calls);
    victim_report("sum", sum);
    return 0;
}
