/* Busy until its standard input ends, in functions made of every way in which a probed instruction is got past; each result is
 * compared with what was computed before anybody attached. Three threads work; one is born and dies again and again; one
 * sleeps in a system call. A signal handler runs in all of them. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "victim.h"

#define WORKERS 3
#define ARGUMENTS 16

typedef uint64_t shape_fn(uint64_t value, uint64_t *memory);

/* The bodies stand as written: what matters is which instruction is probed. rdi: a value, rsi: 64 bytes of memory. */
#define SHAPE(name, body) \
    __asm__(".pushsection .text\n.globl " #name "\n.type " #name ", @function\n.balign 16\n" #name ":\n" body \
            "\n.size " #name ", . - " #name "\n.popsection\n"); \
    extern shape_fn name;

SHAPE(shape_nop, "nop\n endbr64\n nopw 0(%rax,%rax)\n leaq 3(%rdi,%rdi,2), %rax\n ret")
SHAPE(shape_push, "push %rbx\n push %r12\n movq %rdi, %rbx\n movq %rbx, %r12\n imulq %r12, %rbx\n movq %rbx, %rax\n"
                  "pop %r12\n pop %rbx\n ret")
SHAPE(shape_frame, "push %rbp\n movq %rsp, %rbp\n subq $32, %rsp\n movq %rdi, -8(%rbp)\n movq -8(%rbp), %rax\n"
                   "notq %rax\n leave\n ret")
SHAPE(shape_jump, "jmp 1f\n ud2\n 1: movq %rdi, %rax\n jmp shape_nop")
SHAPE(shape_branch, "movq %rdi, %rax\n testq $1, %rdi\n jz 1f\n addq $100, %rax\n 1: testq $2, %rdi\n jnz 2f\n"
                    "rorq $7, %rax\n 2: ret")
SHAPE(shape_loop, "movl $3, %ecx\n movq %rdi, %rax\n 1: leaq 1(%rax,%rax), %rax\n loop 1b\n xorl %ecx, %ecx\n jrcxz 2f\n ud2\n"
                  "2: ret")
SHAPE(shape_call, "subq $8, %rsp\n call shape_frame\n movq %rax, %rdi\n call shape_push\n addq $8, %rsp\n ret")
SHAPE(shape_indirect, "leaq shape_push(%rip), %rax\n movq %rax, (%rsi)\n push %rsi\n call *(%rsi)\n pop %rsi\n movq %rax, %rdi\n"
                      "leaq shape_frame(%rip), %rax\n jmp *%rax")
SHAPE(shape_relative, "movq shape_constant(%rip), %rax\n xorq %rdi, %rax\n addq shape_constant+8(%rip), %rax\n"
                      "cmpq $0, shape_constant(%rip)\n je 1f\n incq %rax\n 1: ret")
SHAPE(shape_memory, "movq %rdi, 8(%rsi)\n addq $5, 8(%rsi)\n movq 8(%rsi), %rax\n xchgq %rax, 16(%rsi)\n movq 16(%rsi), %rax\n ret")
SHAPE(shape_flags, "movq %rdi, %rax\n addq %rdi, %rax\n pushfq\n pop %rdx\n andl $0x41, %edx\n addq %rdx, %rax\n push %rdi\n"
                   "andq $0x8d5, (%rsp)\n orq $0x202, (%rsp)\n popfq\n setc %dl\n movzbl %dl, %edx\n addq %rdx, %rax\n cld\n ret")
SHAPE(shape_string, "movq %rdi, %rax\n leaq 24(%rsi), %rdi\n movl $3, %ecx\n rep stosq\n movq 32(%rsi), %rax\n lodsq %ds:(%rsi), %rax\n"
                    "movq 24(%rsi), %rax\n ret")
SHAPE(shape_vector, "movq %rdi, %xmm0\n paddq %xmm0, %xmm0\n movq %xmm0, %xmm3\n paddq shape_constant(%rip), %xmm3\n"
                    "movq %xmm3, %rax\n ret")
SHAPE(shape_syscall, "movl $39, %eax\n syscall\n movl %eax, %eax\n movl $186, %eax\n syscall\n testl %eax, %eax\n setns %al\n"
                     "movzbl %al, %eax\n addq %rdi, %rax\n ret")
__asm__(".pushsection .rodata\n.balign 16\nshape_constant: .quad 0x9e3779b97f4a7c15, 0x123456789abcdef\n.popsection\n");

static shape_fn *const shapes[] = {
    shape_nop, shape_push, shape_frame, shape_jump, shape_branch, shape_loop, shape_call, shape_indirect, shape_relative,
    shape_memory, shape_flags, shape_string, shape_vector, shape_syscall};
#define SHAPES (sizeof shapes / sizeof *shapes)

static uint64_t expected[SHAPES][ARGUMENTS];
static atomic_int stop;
static _Atomic uint64_t rounds, wrong, born, signals;

static uint64_t argument(int i)
{
    return (uint64_t)(i + 1) * 0x9e3779b97f4a7c15u >> (i & 31);
}

static uint64_t round_make(uint64_t *memory, int verify)
{
    uint64_t faults = 0;
    for (size_t shape = 0; shape < SHAPES; shape++)
        for (int i = 0; i < ARGUMENTS; i++) {
            uint64_t result = shapes[shape](argument(i), memory);
            if (!verify)
                expected[shape][i] = result;
            else if (result != expected[shape][i]) {
                faults++;
                fprintf(stderr, "shape %zu argument %d: %" PRIx64 " for %" PRIx64 "\n", shape, i, result, expected[shape][i]);
            }
        }
    return faults;
}

static void *work(void *unused)
{
    uint64_t memory[8] = {0};
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        wrong += round_make(memory, 1);
        rounds++;
    }
    return unused;
}

static void *live_shortly(void *unused)
{
    uint64_t memory[8] = {0};
    wrong += round_make(memory, 1);
    born++;
    return unused;
}

static void *beget(void *unused)
{
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        pthread_t child;
        if (pthread_create(&child, NULL, live_shortly, NULL) == 0)
            pthread_join(child, NULL);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    return unused;
}

static void handle(int signal)
{
    (void)signal;
    signals++;
}

int main(int argc, char **argv)
{
    pthread_t threads[WORKERS + 1];
    uint64_t memory[8] = {0};
    long interval = argc > 1 ? strtol(argv[1], NULL, 10) : 0;
    round_make(memory, 0);
    sigaction(SIGALRM, &(struct sigaction){.sa_handler = handle, .sa_flags = SA_RESTART}, NULL);
    for (int i = 0; i < WORKERS; i++)
        if (pthread_create(&threads[i], NULL, work, NULL))
            return 1;
    if (pthread_create(&threads[WORKERS], NULL, beget, NULL))
        return 1;
    if (interval) {
        struct itimerspec every = {{0, interval}, {0, interval}};
        timer_t timer;
        timer_create(CLOCK_MONOTONIC, NULL, &timer);
        timer_settime(timer, 0, &every, NULL);
    }
    victim_ready();
    /* Each order is answered: the process works as it did. */
    while (victim_order() > 0)
        victim_report("rounds", rounds);
    atomic_store(&stop, 1);
    for (int i = 0; i <= WORKERS; i++)
        pthread_join(threads[i], NULL);
    victim_report("rounds", rounds);
    victim_report("born", born);
    victim_report("signals", signals);
    victim_report("wrong", wrong);
    return 0;
}
