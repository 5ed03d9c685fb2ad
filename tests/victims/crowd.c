/* The first order is a number of threads. One in ten calls `work` all the time, the others sleep; they end with the input. */
#include <pthread.h>
#include <unistd.h>

#include "victim.h"

static volatile int over;

PROBED uint64_t work(uint64_t value)
{
    return (value ^ 0x77) * 9;
}

static void *busy(void *argument)
{
    volatile uint64_t value = (uintptr_t)argument;
    while (!over) {
        value = work(value);
        usleep(2000);
    }
    return NULL;
}

static void *asleep(void *argument)
{
    (void)argument;
    while (!over)
        usleep(200000);
    return NULL;
}

int main(void)
{
    static pthread_t threads[10000];
    pthread_attr_t small;
    long count;
    victim_ready();
    count = victim_order();
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    if (count < 1 || count > 10000)
        return 1;
    for (long i = 0; i < count; i++)
        if (pthread_create(&threads[i], &small, i % 10 ? asleep : busy, (void *)i) != 0)
            return 1;
    puts("born");
    fflush(stdout);
    victim_order();
    over = 1;
    for (long i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
