/* The first thread ends at once; another answers orders. */
#include <pthread.h>
#include <unistd.h>

#include "victim.h"

static void *run_alone(void *leader)
{
    pthread_join(*(pthread_t *)leader, NULL);
    victim_ready();
    while (victim_order() > 0)
        continue;
    exit(0);
}

int main(void)
{
    static pthread_t leader;
    pthread_t other;
    leader = pthread_self();
    if (pthread_create(&other, NULL, run_alone, &leader))
        abort();
    pthread_exit(NULL);
}
