/* Each order makes one child by every means; children call `work` and say how often in their exit status, so that what a
 * follower counted for each process can be compared. A grandchild is made, too; and a daemon, by two forks. Told by an
 * argument, the program is only the image that such a child executes: it calls `work` four times. */
#define _GNU_SOURCE
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "victim.h"

static uint64_t calls;
static const char *self;
extern char **environ;

PROBED uint64_t work(uint64_t value)
{
    return (value ^ 0x55) * 7;
}

static uint64_t own(uint64_t value)
{
    calls++;
    return work(value);
}

static int repeat(int times)
{
    volatile uint64_t value = 1;
    for (int i = 0; i < times; i++)
        value = work(value);
    return value == 0 ? 99 : times;
}

static int child_of_clone(void *times)
{
    return repeat((int)(long)times);
}

/* The child's pid and how often it called `work`. */
static void reap(const char *how, pid_t pid)
{
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, __WALL) != pid || !WIFEXITED(status))
        status = -1;
    printf("%s %d %d\n", how, pid, status < 0 ? -1 : WEXITSTATUS(status));
    fflush(stdout);
}

static void make_daemon(void)
{
    int tell[2];
    struct { pid_t pid; int calls; } report = {0};
    if (pipe(tell))
        abort();
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        if (fork() == 0) {
            report.calls = repeat(6);
            report.pid = getpid();
            if (write(tell[1], &report, sizeof report) < 0)
                abort();
            _exit(0);
        }
        _exit(repeat(5));
    }
    reap("parent", pid);
    close(tell[1]);
    if (read(tell[0], &report, sizeof report) != sizeof report)
        report.pid = -1;
    close(tell[0]);
    printf("daemon %d %d\n", report.pid, report.calls);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static char stack[65536] __attribute__((aligned(16)));
    char *program[] = {argv[0], "image", NULL};
    volatile uint64_t value = 1;
    pid_t pid;
    self = argv[0];
    if (argc > 1)
        return repeat(4);
    victim_ready();
    for (long order; (order = victim_order()) > 0;) {
        value = own(value);
        if ((pid = fork()) == 0)
            _exit(repeat(3));
        reap("fork", pid);
        value = own(value);
        if ((pid = vfork()) == 0) {
            execv(self, program);
            _exit(1);
        }
        reap("vfork", pid);
        value = own(value);
        reap("clone", clone(child_of_clone, stack + sizeof stack, SIGCHLD, (void *)7));
        value = own(value);
        struct clone_args how = {.exit_signal = SIGCHLD};
        if ((pid = (pid_t)syscall(SYS_clone3, &how, sizeof how)) == 0)
            _exit(repeat(8));
        reap("clone3", pid);
        value = own(value);
        reap("parentless", clone(child_of_clone, stack + sizeof stack, 0, (void *)9));
        value = own(value);
        pid = posix_spawn(&pid, program[0], NULL, NULL, program, environ) == 0 ? pid : -1;
        reap("spawn", pid);
        value = own(value);
        if ((pid = fork()) == 0) {
            execv(self, program);
            _exit(1);
        }
        reap("exec", pid);
        value = own(value);
        make_daemon();
        puts("made 0");
        fflush(stdout);
    }
    victim_report("work", calls);
    return value == 0;
}
