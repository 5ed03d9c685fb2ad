/* Very many threads with small stacks. The first number is how many; every second one calls `work` without pause, the
 * others sleep. Every later order asks for the longest time, in microseconds, that a busy thread could not run since the
 * last order. The end of orders ends them all. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#include "victim.h"

static atomic_int stop, born;
static _Atomic uint64_t calls;
static int gate[2];

PROBED uint64_t work(uint64_t value)
{
    return (value ^ 0x77) * 3;
}

static void *run_busy(void *unused)
{
    uint64_t value = 1, own = 0;
    (void)unused;
    atomic_fetch_add(&born, 1);
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        value = work(value);
        own++;
        if (own % 64 == 0)
            sched_yield();
    }
    atomic_fetch_add(&calls, own);
    return (void *)(value & 1);
}

static void *run_asleep(void *unused)
{
    char byte;
    (void)unused;
    atomic_fetch_add(&born, 1);
    if (read(gate[0], &byte, 1) != 0)
        abort(); /* nobody writes: an early return is a disturbance of ours */
    return NULL;
}

int main(int argc, char **argv)
{
    long count = argc > 1 ? strtol(argv[1], NULL, 10) : 1000;
    long busy = argc > 2 ? strtol(argv[2], NULL, 10) : count / 2;
    pthread_t *threads = calloc((size_t)count, sizeof *threads);
    pthread_attr_t small;
    if (pipe(gate) || !threads)
        return 1;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    for (long i = 0; i < count; i++)
        if (pthread_create(&threads[i], &small, i < busy ? run_busy : run_asleep, NULL))
            return 1;
    while (atomic_load(&born) < count)
        usleep(1000);
    victim_ready();
    while (victim_order() > 0)
        victim_report("threads", (uint64_t)count);
    atomic_store(&stop, 1);
    close(gate[1]);
    for (long i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    victim_report("work", calls);
    return 0;
}
