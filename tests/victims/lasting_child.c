/* The first order makes a child; every later one lets both call `work` and `more` so many times, the child first. */
#include <sys/wait.h>
#include <unistd.h>

#include "victim.h"

PROBED uint64_t work(uint64_t value)
{
    return (value ^ 0x77) * 9;
}

PROBED uint64_t more(uint64_t value)
{
    return (value ^ 0x55) + 3;
}

static void run(long count)
{
    volatile uint64_t value = 1;
    while (count-- > 0)
        value = more(work(value));
}

int main(void)
{
    int to_child[2], to_parent[2];
    long order;
    pid_t pid;
    victim_ready();
    if (!victim_order() || pipe(to_child) < 0 || pipe(to_parent) < 0)
        return 1;
    if ((pid = fork()) == 0) {
        close(to_child[1]);
        while (read(to_child[0], &order, sizeof order) == sizeof order) {
            run(order);
            if (write(to_parent[1], &order, sizeof order) < 0)
                return 1;
        }
        return 0;
    }
    close(to_child[0]);
    victim_report("child", pid);
    while ((order = victim_order()) > 0) {
        if (write(to_child[1], &order, sizeof order) < 0 || read(to_parent[0], &order, sizeof order) < 0)
            return 1;
        run(order);
        puts("done");
        fflush(stdout);
    }
    close(to_child[1]);
    return waitpid(pid, NULL, 0) != pid;
}
