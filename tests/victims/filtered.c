/* As hot.c, with a seccomp filter that lets everything through. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include "victim.h"

static uint64_t calls;

PROBED uint64_t hot(uint64_t value)
{
    return value * 3 + 1;
}

int main(void)
{
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {1, &allow};
    uint64_t value = 1;
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        return 1;
    victim_ready();
    for (long order; (order = victim_order()) > 0; calls += (uint64_t)order) {
        for (long i = 0; i < order; i++)
            value = hot(value);
        victim_report("done", (uint64_t)order);
    }
    victim_report("hot", calls);
    return value == 0;
}
