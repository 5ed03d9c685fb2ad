/* Each order makes one child by every means: fork, vfork, clone, posix_spawn. Children that run our code call `work`
 * three times and exit with what they made of it; the parent calls it once around each. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "victim.h"

static uint64_t calls;
extern char **environ;

PROBED uint64_t work(uint64_t value)
{
    return (value ^ 0x77) * 9;
}

static uint64_t own(uint64_t value)
{
    calls++;
    return work(value);
}

static int child(void *argument)
{
    uint64_t value = 1;
    (void)argument;
    for (int i = 0; i < 3; i++)
        value = work(value);
    return value % 50 + 10;
}

static void reap(const char *how, pid_t pid)
{
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, __WALL) != pid)
        status = -1;
    printf("%s %d\n", how, WIFEXITED(status) ? WEXITSTATUS(status) : -status);
    fflush(stdout);
}

int main(void)
{
    static char stack[65536] __attribute__((aligned(16)));
    char *program[] = {"/bin/true", NULL};
    volatile uint64_t value = 1;
    pid_t pid;
    victim_ready();
    for (long order; (order = victim_order()) > 0;) {
        value = own(value);
        if ((pid = fork()) == 0)
            _exit(child(NULL));
        reap("fork", pid);
        value = own(value);
        if ((pid = vfork()) == 0)
            _exit(13);
        reap("vfork", pid);
        value = own(value);
        reap("clone", clone(child, stack + sizeof stack, SIGCHLD, NULL));
        value = own(value);
        pid = posix_spawn(&pid, program[0], NULL, NULL, program, environ) == 0 ? pid : -1;
        reap("spawn", pid);
    }
    victim_report("work", calls);
    return value == 0;
}
