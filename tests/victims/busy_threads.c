/* Eight threads, each busy in 200 functions of 20 shapes: straight code, branches, tables, loops, SSE, x87, calls of
 * libc, tail calls, recursion, indirect calls, string instructions, locked instructions, and first instructions that a compiler
 * rarely emits. Every caller counts before it calls, so the counts are exact whatever happens inside. Each order is
 * a number of rounds; in a round each thread calls every function at least once, in an order of its own.
 * The checksum does not depend on how the threads interleave. */
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>

#include "victim.h"

#define THREADS 8
#define EACH(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9)
#define SHAPES(M) \
    M(arith, 0) M(divide, 1) M(branch, 2) M(table, 3) M(sse, 4) M(loop, 5) M(global, 6) M(string, 7) \
    M(tail, 8) M(recurse, 9) M(indirect, 10) M(varargs, 11) M(frame, 12) M(bits, 13) M(x87, 14) \
    M(locked, 15) M(jrcxz, 16) M(pushes, 17) M(rep, 18) M(flags, 19)
#define SHAPE_COUNT 20
#define FUNCTIONS (SHAPE_COUNT * 10)

struct task {
    pthread_t thread;
    uint64_t calls[FUNCTIONS];
    uint64_t state;
    char buffer[256];
};

typedef uint64_t work_fn(struct task *, uint64_t);

#define DECLARE(shape, i) PROBED uint64_t work_##shape##_##i(struct task *t, uint64_t x);
#define DECLARE_SHAPE(shape, id) \
    DECLARE(shape, 0) DECLARE(shape, 1) DECLARE(shape, 2) DECLARE(shape, 3) DECLARE(shape, 4) \
    DECLARE(shape, 5) DECLARE(shape, 6) DECLARE(shape, 7) DECLARE(shape, 8) DECLARE(shape, 9)
SHAPES(DECLARE_SHAPE)

/* Call function `i` of the shape with number `id`, counted. */
#define CALL(shape, id, i, t, x) ((t)->calls[(id)*10 + (i)]++, work_##shape##_##i((t), (x)))
#define WORK(shape, i) uint64_t work_##shape##_##i(struct task *t __attribute__((unused)), uint64_t x)

static const uint64_t primes[] = {3, 5, 7, 11, 13, 17, 19, 23, 29, 31};
static uint64_t constant = 0x9e3779b97f4a7c15;
static _Atomic uint64_t shared;

#define ARITH(i) WORK(arith, i) { return x * (2 * i + 3) + (x >> (i + 1)); }
EACH(ARITH)

#define DIVIDE(i) WORK(divide, i) { return x / (i + 3) + x % primes[i]; }
EACH(DIVIDE)

#define BRANCH(i) \
    WORK(branch, i) { \
        if (x & (1u << i)) \
            return x + i; \
        if ((int64_t)x < 0) \
            return x ^ 0xff; \
        return x % 3 ? x << 1 : x + 17; \
    }
EACH(BRANCH)

#define TABLE(i) \
    WORK(table, i) { \
        switch ((x + i) % 7) { \
        case 0: return x + 1; \
        case 1: return x * 3; \
        case 2: return x ^ 0x55; \
        case 3: return ~x; \
        case 4: t->buffer[i] = (char)x; return x - i; \
        case 5: return x >> 3; \
        default: return x; \
        } \
    }
EACH(TABLE)

#define SSE(i) \
    WORK(sse, i) { \
        double a = (double)(x & 0xffff), b = a * 1.5 + i; \
        return x + (uint64_t)(b / (a + 1.0) * 64.0); \
    }
EACH(SSE)

#define LOOP(i) \
    WORK(loop, i) { \
        for (unsigned n = 0; n < 16 + i; n++) \
            x = x * 31 + (unsigned char)t->buffer[n]; \
        return x; \
    }
EACH(LOOP)

#define GLOBAL(i) WORK(global, i) { return (constant ^ x) + primes[(x + i) % 10]; }
EACH(GLOBAL)

#define STRING(i) \
    WORK(string, i) { \
        memset(t->buffer + 64, 'a' + i, 40 + x % 20); \
        t->buffer[64 + 40 + x % 20] = 0; \
        return x + strlen(t->buffer + 64); \
    }
EACH(STRING)

#define TAIL(i) WORK(tail, i) { return CALL(arith, 0, i, t, x + i); }
EACH(TAIL)

#define RECURSE(i) WORK(recurse, i) { \
        if (x % 4 == 0) \
            return x + i; \
        x = CALL(recurse, 9, i, t, x - 1); \
        __asm__ volatile("" : "+r"(x)); /* keeps the recursion from becoming a loop */ \
        return x + 1; \
    }
EACH(RECURSE)

static work_fn *const bits_functions[];
#define INDIRECT(i) \
    WORK(indirect, i) { \
        unsigned n = (x + i) % 10; \
        t->calls[13 * 10 + n]++; \
        return bits_functions[n](t, x) + 1; \
    }
EACH(INDIRECT)

static __attribute__((noipa)) uint64_t sum_of(int count, ...)
{
    uint64_t sum = 0;
    va_list list;
    va_start(list, count);
    while (count-- > 0)
        sum += va_arg(list, uint64_t);
    va_end(list);
    return sum;
}

#define VARARGS(i) WORK(varargs, i) { return sum_of(8, x, x + 1, x + 2, x + 3, x + 4, x + 5, x + 6, x + i); }
EACH(VARARGS)

#define FRAME(i) \
    WORK(frame, i) { \
        volatile uint64_t local[64 + i]; \
        for (unsigned n = 0; n < 8; n++) \
            local[n * 7] = x + n; \
        return local[21] * 3 + local[49]; \
    }
EACH(FRAME)

#define BITS(i) WORK(bits, i) { return __builtin_bswap64(x + i) ^ (uint64_t)__builtin_popcountll(x) ^ (x << i | x >> (63 - i)); }
EACH(BITS)
#define BITS_ENTRY(i) work_bits_##i,
static work_fn *const bits_functions[] = {EACH(BITS_ENTRY)};

#define X87(i) WORK(x87, i) { return x ^ (uint64_t)((long double)(x & 0xffffff) * 1.25L + i); }
EACH(X87)

#define LOCKED(i) WORK(locked, i) { atomic_fetch_add(&shared, i + 1); return x + i; }
EACH(LOCKED)

/* The rest in assembly, for its first instructions. */
#define ASM(shape, i, body) \
    __asm__(".globl work_" #shape "_" #i "\n.type work_" #shape "_" #i ", @function\n" \
            "work_" #shape "_" #i ":\n" body ".size work_" #shape "_" #i ", . - work_" #shape "_" #i "\n");

#define JRCXZ(i) ASM(jrcxz, i, \
    "    jrcxz 1f\n    nop\n1:  mov $" #i " + 2, %ecx\n    mov %rsi, %rax\n2:  add %rcx, %rax\n    loop 2b\n    ret\n")
EACH(JRCXZ)

#define PUSHES(i) ASM(pushes, i, \
    "    push $" #i " + 77\n    push %rsi\n    push 8(%rsp)\n    pop %rax\n    pop %rdx\n    add %rdx, %rax\n    pop %rdx\n    ret\n")
EACH(PUSHES)

#define REP(i) ASM(rep, i, \
    "    mov $" #i " + 5, %ecx\n    mov %esi, %eax\n    push %rsi\n    cld\n    sub $256, %rsp\n    mov %rsp, %rdi\n" \
    "    rep stosb\n    movzbl 3(%rsp), %eax\n    add $256, %rsp\n    pop %rcx\n    add %rcx, %rax\n    ret\n")
EACH(REP)

/* pushfq: the image must not show a tracer's trap flag; call to the next instruction: the return address must be its own. */
#define FLAGS(i) ASM(flags, i, \
    "    pushfq\n    pop %rax\n    and $0x100, %eax\n    call 1f\n1:  pop %rdx\n    lea 1b(%rip), %rcx\n    sub %rcx, %rdx\n" \
    "    add %rdx, %rax\n    lea " #i "(%rax,%rsi), %rax\n    ret\n")
EACH(FLAGS)

#define ENTRY(shape, i) work_##shape##_##i,
#define ENTRIES(shape, id) \
    ENTRY(shape, 0) ENTRY(shape, 1) ENTRY(shape, 2) ENTRY(shape, 3) ENTRY(shape, 4) \
    ENTRY(shape, 5) ENTRY(shape, 6) ENTRY(shape, 7) ENTRY(shape, 8) ENTRY(shape, 9)
static work_fn *const functions[] = {SHAPES(ENTRIES)};
#define NAME(shape, id) #shape,
static const char *const shapes[] = {SHAPES(NAME)};

static struct task tasks[THREADS];
static pthread_barrier_t barrier;
static long rounds;

static void run_round(struct task *t, unsigned round)
{
    /* 37 and 200 have no common factor: every function once, from a start of its own. */
    unsigned at = (unsigned)(t - tasks) * 25 + round * 11;
    for (unsigned n = 0; n < FUNCTIONS; n++) {
        unsigned f = (at + n * 37) % FUNCTIONS;
        t->calls[f]++;
        t->state += functions[f](t, t->state);
    }
}

static void *run_thread(void *argument)
{
    struct task *t = argument;
    unsigned round = 0;
    for (;;) {
        pthread_barrier_wait(&barrier);
        if (rounds <= 0)
            return NULL;
        for (long i = 0; i < rounds; i++)
            run_round(t, round++);
        pthread_barrier_wait(&barrier);
    }
}

static void report(void)
{
    uint64_t checksum = atomic_load(&shared);
    char name[32];
    for (unsigned f = 0; f < FUNCTIONS; f++) {
        uint64_t calls = 0;
        for (unsigned t = 0; t < THREADS; t++)
            calls += tasks[t].calls[f];
        snprintf(name, sizeof name, "work_%s_%u", shapes[f / 10], f % 10);
        victim_report(name, calls);
    }
    for (unsigned t = 0; t < THREADS; t++)
        checksum = checksum * 31 + tasks[t].state;
    victim_report("checksum", checksum);
}

int main(void)
{
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (unsigned t = 0; t < THREADS; t++) {
        tasks[t].state = t + 1;
        if (pthread_create(&tasks[t].thread, NULL, run_thread, &tasks[t]))
            return 1;
    }
    victim_ready();
    while ((rounds = victim_order()) > 0) {
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        victim_report("rounds", (uint64_t)rounds);
    }
    pthread_barrier_wait(&barrier);
    for (unsigned t = 0; t < THREADS; t++)
        pthread_join(tasks[t].thread, NULL);
    report();
    return 0;
}
