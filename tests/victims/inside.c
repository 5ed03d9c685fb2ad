/* `fill` is five bytes, and a thread is nearly always at its second instruction, which takes its time. Each order is a
 * number of calls for each of two threads; what was filled is checked after every call. An order below zero lets a signal
 * arrive inside `fill`, whose handler does not return before the next line of input. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include <sys/time.h>
#include <ucontext.h>

#include "victim.h"

#define SIZE (1 << 20)

void fill(void *to, uint64_t value, uint64_t zero, uint64_t count);
__asm__(".text\n.p2align 4\n.globl fill\n.type fill, @function\n"
        "fill: movl %esi, %eax\nrep stosb\nret\n.size fill, . - fill\n.p2align 4\n");

static char buffers[2][SIZE];
static uint64_t calls[2], wrong;
static long rounds;
static volatile sig_atomic_t held;

static void *run(void *argument)
{
    long own = (long)argument;
    for (long i = 0; i < rounds; i++) {
        int value = (int)(calls[own]++ & 0xff);
        fill(buffers[own], (uint64_t)value, 0, SIZE);
        if (buffers[own][0] != (char)value || memcmp(buffers[own], buffers[own] + 1, SIZE - 1))
            __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void hold(int number, siginfo_t *info, void *context)
{
    uint64_t ip = (uint64_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    char byte;
    (void)number;
    (void)info;
    if (held || ip != (uint64_t)fill + 2)
        return;
    held = 1;
    puts("held");
    fflush(stdout);
    while (read(0, &byte, 1) == 1 && byte != '\n')
        ;
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = hold, .sa_flags = SA_SIGINFO | SA_RESTART};
    struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    pthread_t threads[2];
    setvbuf(stdin, NULL, _IONBF, 0);
    sigaction(SIGALRM, &action, NULL);
    victim_ready();
    for (long order; (order = victim_order()) != 0;) {
        if (order < 0) {
            held = 0;
            setitimer(ITIMER_REAL, &often, NULL);
            while (!held) {
                calls[0]++;
                fill(buffers[0], 0, 0, SIZE);
            }
            setitimer(ITIMER_REAL, &never, NULL);
            victim_report("released", calls[0]);
            continue;
        }
        rounds = order;
        for (long i = 0; i < 2; i++)
            pthread_create(&threads[i], NULL, run, (void *)i);
        for (long i = 0; i < 2; i++)
            pthread_join(threads[i], NULL);
        victim_report("rounds", calls[0]);
    }
    victim_report("fill", calls[0] + calls[1]);
    victim_report("wrong", wrong);
    return 0;
}
