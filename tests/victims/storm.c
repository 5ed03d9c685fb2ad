/* A timer's signal arrives as often as it can while `work` runs in a loop. The handler checks that it interrupted code
 * that belongs to a file: the program, a library or the vDSO, never anything else. */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <ucontext.h>

#include "victim.h"

#define RANGES 64

static struct { uint64_t start, end; } code[RANGES];
static int ranges;
static volatile uint64_t signals, foreign;
static uint64_t calls;

PROBED uint64_t work(uint64_t value)
{
    return (value ^ 0x1234) * 7 + (value >> 3);
}

static void note(int number, siginfo_t *info, void *context)
{
    uint64_t ip = (uint64_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    int known = 0;
    (void)number;
    (void)info;
    for (int i = 0; i < ranges; i++)
        known |= ip >= code[i].start && ip < code[i].end;
    signals++;
    foreign += !known;
}

static void read_code(void)
{
    char line[512], rights[5];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && ranges < RANGES && fgets(line, sizeof line, maps)) {
        uint64_t start, end;
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &start, &end, rights) == 3 && rights[2] == 'x') {
            code[ranges].start = start;
            code[ranges++].end = end;
        }
    }
    if (maps)
        fclose(maps);
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_RESTART};
    struct itimerval often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
    uint64_t value = 1;
    read_code();
    sigaction(SIGALRM, &action, NULL);
    victim_ready();
    for (long order; (order = victim_order()) > 0;) {
        setitimer(ITIMER_REAL, &often, NULL);
        for (; order > 0; order--, calls++)
            value = work(value);
        setitimer(ITIMER_REAL, &never, NULL);
        victim_report("done", calls);
    }
    victim_report("work", calls);
    victim_report("signals", signals);
    victim_report("foreign", foreign);
    return value == 0;
}
