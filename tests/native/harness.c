/* Calls code at an address: with every register and flag set and looked at, or from many threads under a storm of signals
 * whose handlers call it too. A library, loaded by harness.py. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* rax … r15 by number, then the flags. */
uint64_t machine_state[17];
uint64_t machine_code;
static uint64_t machine_stack __attribute__((used));

/* Jumps to machine_code in machine_state; the code ends in a jump to machine_leave, which keeps the state again. */
__asm__(".text\n"
        ".globl machine_enter, machine_leave\n"
        "machine_enter:\n"
        "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "mov %rsp, machine_stack(%rip)\n"
        "mov machine_state@GOTPCREL(%rip), %rax\n"
        "push 128(%rax); popfq\n"
        "mov 8(%rax), %rcx; mov 16(%rax), %rdx; mov 24(%rax), %rbx; mov 32(%rax), %rsp; mov 40(%rax), %rbp\n"
        "mov 48(%rax), %rsi; mov 56(%rax), %rdi; mov 64(%rax), %r8; mov 72(%rax), %r9; mov 80(%rax), %r10\n"
        "mov 88(%rax), %r11; mov 96(%rax), %r12; mov 104(%rax), %r13; mov 112(%rax), %r14; mov 120(%rax), %r15\n"
        "mov 0(%rax), %rax\n"
        "jmp *machine_target(%rip)\n"
        "machine_leave:\n"
        "mov %rax, machine_rax(%rip)\n"
        "mov machine_state@GOTPCREL(%rip), %rax\n"
        "mov %rcx, 8(%rax); mov %rdx, 16(%rax); mov %rbx, 24(%rax); mov %rsp, 32(%rax); mov %rbp, 40(%rax)\n"
        "mov %rsi, 48(%rax); mov %rdi, 56(%rax); mov %r8, 64(%rax); mov %r9, 72(%rax); mov %r10, 80(%rax)\n"
        "mov %r11, 88(%rax); mov %r12, 96(%rax); mov %r13, 104(%rax); mov %r14, 112(%rax); mov %r15, 120(%rax)\n"
        "mov machine_rax(%rip), %rcx; mov %rcx, 0(%rax)\n"
        "mov machine_stack(%rip), %rsp\n"
        "pushfq; pop 128(%rax)\n"
        "push $2; popfq\n"
        "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "ret\n"
        ".local machine_target, machine_rax\n"
        ".comm machine_target, 8, 8\n"
        ".comm machine_rax, 8, 8\n"
        ".globl machine_aim\n"
        "machine_aim:\n"
        "mov %rdi, machine_target(%rip); ret\n");

typedef void (*code_t)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

typedef struct worker {
    pthread_t thread;
    code_t code;
    uint64_t number, calls, nested;
    int hops;
    volatile int over;
    pid_t tid;
} worker_t;

static __thread worker_t *own;

static void on_signal(int number) {
    (void)number;
    int kept = errno;
    if (own)
        for (int i = 0; i < 3; i++) {
            /* One instruction: handlers interrupt each other. */
            uint64_t turn = __atomic_add_fetch(&own->nested, 1, __ATOMIC_RELAXED);
            own->code(own->number | 1u << 16, turn, ~turn, 0, 0, 0);
        }
    errno = kept;
}

static void *work(void *argument) {
    worker_t *worker = argument;
    worker->tid = (pid_t)syscall(SYS_gettid);
    own = worker;
    for (uint64_t i = 1; i <= worker->calls; i++) {
        worker->code(worker->number, i, ~i, 0, 0, 0);
        if (worker->hops && i % 4096 == 0) {
            cpu_set_t set;
            CPU_ZERO(&set);
            CPU_SET((i / 4096) % worker->hops, &set);
            sched_setaffinity(0, sizeof set, &set);
        }
    }
    own = NULL;
    worker->over = 1;
    return NULL;
}

/* `threads` threads call `code` `calls` times each; SIGUSR1 comes to each of them every now and then. hops: they move over
 * so many processors. How often it was called, handlers included; tids gets the threads' numbers, counts their calls. */
uint64_t storm(code_t code, int threads, uint64_t calls, int hops, int signals, int32_t *tids, uint64_t *counts) {
    static worker_t workers[64];
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_NODEFER | SA_RESTART}, before;
    uint64_t total = 0;
    memset(workers, 0, sizeof workers);
    sigaction(SIGUSR1, &action, &before);
    for (int i = 0; i < threads; i++) {
        workers[i].code = code;
        workers[i].number = (uint64_t)i;
        workers[i].calls = calls;
        workers[i].hops = hops;
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    }
    for (int busy = signals; busy;) {
        busy = 0;
        for (int i = 0; i < threads; i++)
            if (!workers[i].over) {
                busy = 1;
                pthread_kill(workers[i].thread, SIGUSR1);
            }
        struct timespec pause = {0, 20000};
        nanosleep(&pause, NULL);
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        tids[i] = workers[i].tid;
        counts[i] = calls + workers[i].nested;
        total += counts[i];
    }
    sigaction(SIGUSR1, &before, NULL);
    return total;
}

/* Nanoseconds a call, from `threads` threads at once: the slowest one's. */
typedef struct racer {
    pthread_t thread;
    code_t code;
    uint64_t calls;
    double ns;
    int processor;
} racer_t;

static void *race(void *argument) {
    racer_t *racer = argument;
    struct timespec begin, end;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(racer->processor, &set);
    sched_setaffinity(0, sizeof set, &set);
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (uint64_t i = 0; i < racer->calls; i++)
        racer->code(i, i + 1, i + 2, i + 3, i + 4, i + 5);
    clock_gettime(CLOCK_MONOTONIC, &end);
    racer->ns = ((end.tv_sec - begin.tv_sec) * 1e9 + (end.tv_nsec - begin.tv_nsec)) / racer->calls;
    return NULL;
}

double call_ns(code_t code, uint64_t calls, int threads, int first) {
    racer_t racers[8];
    double worst = 0;
    for (int i = 0; i < threads; i++) {
        racers[i] = (racer_t){.code = code, .calls = calls, .processor = first + i};
        pthread_create(&racers[i].thread, NULL, race, &racers[i]);
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(racers[i].thread, NULL);
        if (racers[i].ns > worst)
            worst = racers[i].ns;
    }
    return worst;
}

/* Where in the thread's control block its number is, as an offset from the fs base; 0: nowhere. */
int64_t tid_offset(void) {
    char *base;
    __asm__("mov %%fs:0, %0" : "=r"(base));
    int32_t tid = (int32_t)syscall(SYS_gettid);
    for (int offset = 4; offset < 2048; offset += 4)
        if (*(int32_t *)(base + offset) == tid)
            return offset;
    return 0;
}

/* The kernel looks at the descriptor of the thread's last sequence whenever it is preempted: none must be overwritten
 * before the thread has forgotten it. */
void forget_sequence(int64_t rseq_offset) {
    char *base;
    __asm__("mov %%fs:0, %0" : "=r"(base));
    *(volatile uint64_t *)(base + rseq_offset + 8) = 0;
}
