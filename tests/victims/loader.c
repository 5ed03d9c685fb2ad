/* Loads and unloads libraries that lie beside it. An order of two digits: which library (units, counted from 1), and what
 * to do with it (tens): 1 load it, 2 call its `forward` ten times, 3 unload it, 4 execute the program anew, 5 the same in a
 * child. */
#include <dlfcn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "victim.h"

static void *libraries[10];
static uint64_t calls;

static void open_library(const char *self, long number)
{
    char path[4096];
    const char *slash = strrchr(self, '/');
    snprintf(path, sizeof path, "%.*s/../plugin_%ld.so", (int)(slash - self), self, number);
    libraries[number] = dlopen(path, RTLD_NOW);
    if (!libraries[number]) {
        fprintf(stderr, "%s\n", dlerror());
        exit(3);
    }
}

int main(int argc, char **argv)
{
    uint64_t value = 1;
    (void)argc;
    victim_ready();
    for (long order; (order = victim_order()) > 0;) {
        long number = order % 10;
        if (order / 10 == 1)
            open_library(argv[0], number);
        else if (order / 10 == 2) {
            uint64_t (*forward)(uint64_t) = (uint64_t (*)(uint64_t))(uintptr_t)dlsym(libraries[number], "forward");
            for (int i = 0; i < 10; i++, calls++)
                value = forward(value);
        } else if (order / 10 == 3)
            dlclose(libraries[number]);
        else if (order / 10 == 4)
            execv(argv[0], argv);
        else if (order / 10 == 5) {
            pid_t pid = fork();
            if (pid == 0) {
                open_library(argv[0], number);
                uint64_t (*forward)(uint64_t) = (uint64_t (*)(uint64_t))(uintptr_t)dlsym(libraries[number], "forward");
                value = forward(forward(value));
                _exit(value == 0);
            }
            waitpid(pid, NULL, 0);
            victim_report("child", (uint64_t)pid);
        }
        victim_report("done", (uint64_t)order);
    }
    victim_report("forward", calls);
    victim_report("value", value);
    return 0;
}
