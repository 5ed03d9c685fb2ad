/* Each order makes a family: every process of it calls `work` a number of times of its own and says so, as
 * `kind pid calls`. Kinds: fork, clone3, threads (a fork that starts threads), grandchild (of a fork), daemon (a
 * grandchild in a session of its own whose parent is gone), executed (a vfork that executes this
 * program anew). A line is written in one go, so that lines of different processes never mix. */
#define _GNU_SOURCE
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "victim.h"

static uint64_t calls;
static char status_byte;

PROBED uint64_t work(uint64_t value)
{
    return (value ^ 0x77) * 9;
}

static void run(int count)
{
    volatile uint64_t value = 1;
    for (int i = 0; i < count; i++)
        value = work(value);
    __atomic_fetch_add(&calls, count, __ATOMIC_RELAXED);
}

static void say(const char *kind, int count)
{
    char line[64];
    int size = snprintf(line, sizeof line, "%s %d %d\n", kind, (int)getpid(), count);
    if (write(1, line, size) != size)
        _exit(1);
}

static void *thread(void *argument)
{
    (void)argument;
    run(5);
    return NULL;
}

static pid_t clone3_fork(void)
{
    struct clone_args arguments = {.exit_signal = SIGCHLD};
    return syscall(SYS_clone3, &arguments, sizeof arguments);
}

static void reap(pid_t pid)
{
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, __WALL) != pid || status != 0)
        printf("wrong %d\n", status);
}

int main(int count, char **words)
{
    pthread_t threads[4];
    pid_t pid;
    int gone[2];
    if (count > 1) {
        run(11);
        say("executed", 11);
        return 0;
    }
    victim_ready();
    for (long order; (order = victim_order()) > 0;) {
        run(1);
        if ((pid = fork()) == 0) {
            run(2);
            say("fork", 2);
            _exit(0);
        }
        reap(pid);
        if ((pid = clone3_fork()) == 0) {
            run(3);
            say("clone3", 3);
            _exit(0);
        }
        reap(pid);
        if ((pid = fork()) == 0) {
            for (int i = 0; i < 4; i++)
                pthread_create(&threads[i], NULL, thread, NULL);
            for (int i = 0; i < 4; i++)
                pthread_join(threads[i], NULL);
            say("threads", 20);
            _exit(0);
        }
        reap(pid);
        if (pipe(gone) < 0)
            return 1;
        if ((pid = fork()) == 0) {
            run(6);
            if (fork() == 0) {
                setsid();
                if (fork() == 0) {
                    run(8);
                    say("daemon", 8);
                    _exit(0);
                }
                run(7);
                say("grandchild", 7);
                _exit(0);
            }
            say("middle", 6);
            _exit(0);
        }
        close(gone[1]);
        reap(pid);
        /* The end of the pipe: the daemon is gone, too. */
        if (read(gone[0], &status_byte, 1) != 0)
            return 1;
        close(gone[0]);
        if ((pid = vfork()) == 0) {
            execl("/proc/self/exe", words[0], "again", NULL);
            _exit(1);
        }
        reap(pid);
        printf("done\n");
        fflush(stdout);
    }
    victim_report("work", calls);
    return 0;
}
