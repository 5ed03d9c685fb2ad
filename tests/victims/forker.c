/* Every odd order makes a child, which waits; every even one lets it call `work` ten times and `late` once, and end. */
#include <sys/wait.h>
#include <unistd.h>

#include "victim.h"

PROBED uint64_t work(uint64_t value)
{
    return value * 3 + (value >> 2);
}

PROBED uint64_t late(uint64_t value)
{
    return value + 1;
}

int main(void)
{
    int go[2], status;
    char byte = 0;
    volatile uint64_t value = 1;
    victim_ready();
    while (victim_order() > 0) {
        if (pipe(go))
            return 1;
        pid_t pid = fork();
        if (pid == 0) {
            if (read(go[0], &byte, 1) != 1)
                _exit(1);
            for (int i = 0; i < 10; i++)
                value = work(value);
            value = late(value);
            _exit(10);
        }
        victim_report("child", (uint64_t)pid);
        victim_order();
        if (write(go[1], &byte, 1) != 1 || waitpid(pid, &status, 0) != pid)
            return 1;
        victim_report("calls", (uint64_t)WEXITSTATUS(status));
    }
    return value == 0;
}
