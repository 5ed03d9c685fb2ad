/* A library that single-steps the program that preloads it, from inside, and writes down every transfer of control.
 *
 * The trap flag raises SIGTRAP after each instruction; the handler keeps (address before, address after) in a table
 * that is a file, shared with all children. LANDINGS is a directory: each program there leaves PID.edges, pairs of
 * addresses, and PID.maps, what it had mapped when it ended or its LANDINGS_STEPS were used up. A system call that would
 * block or replace SIGTRAP is made without that.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define TRAP_FLAG 0x100
#define SLOTS (1u << 20)
#define PROBES 64
#define SIGTRAP_BIT (1ull << (SIGTRAP - 1))

struct edge {
    _Atomic uint64_t before, after;
};

struct kernel_action {
    void *handler;
    unsigned long flags;
    void *restorer;
    uint64_t mask;
};

static struct edge *edges;
static _Atomic long *left; /* steps */
static char maps_path[512];
static __thread uint64_t before __attribute__((tls_model("initial-exec")));

static long call(long number, long a, long b, long c, long d) {
    long result;
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall" : "=a"(result) : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
    return result;
}

static void write_maps(void) {
    char buffer[4096];
    long in = call(SYS_open, (long)"/proc/self/maps", O_RDONLY, 0, 0), count;
    long out = call(SYS_open, (long)maps_path, O_WRONLY | O_CREAT | O_APPEND, 0644, 0);
    while (in >= 0 && out >= 0 && (count = call(SYS_read, in, (long)buffer, sizeof buffer, 0)) > 0)
        call(SYS_write, out, (long)buffer, count, 0);
    call(SYS_close, in, 0, 0, 0);
    call(SYS_close, out, 0, 0, 0);
}

static void keep(uint64_t from, uint64_t to) {
    uint64_t slot = (from * 0x9E3779B97F4A7C15ull ^ to * 0xC2B2AE3D27D4EB4Full) >> 44;
    for (int probe = 0; probe < PROBES; probe++, slot = (slot + 1) & (SLOTS - 1)) {
        uint64_t found = atomic_load(&edges[slot].before), none = 0;
        if (!found && atomic_compare_exchange_strong(&edges[slot].before, &none, from)) {
            atomic_store(&edges[slot].after, to);
            return;
        }
        if (atomic_load(&edges[slot].before) == from && atomic_load(&edges[slot].after) == to)
            return;
    }
}

/* rt_sigprocmask and rt_sigaction as the program means them, but for SIGTRAP. */
static int make_call(ucontext_t *context) {
    greg_t *regs = context->uc_mcontext.gregs;
    const uint8_t *code = (const uint8_t *)regs[REG_RIP];
    if (code[0] != 0x0f || code[1] != 0x05)
        return 0;
    if (regs[REG_RAX] == SYS_rt_sigprocmask && regs[REG_RSI] && regs[REG_R10] == 8) {
        uint64_t *mask = (uint64_t *)&context->uc_sigmask, old = *mask, given = *(const uint64_t *)regs[REG_RSI];
        *mask = regs[REG_RDI] == SIG_BLOCK ? old | given : regs[REG_RDI] == SIG_UNBLOCK ? old & ~given : given;
        *mask &= ~SIGTRAP_BIT;
        if (regs[REG_RDX])
            *(uint64_t *)regs[REG_RDX] = old;
        regs[REG_RAX] = 0;
    } else if (regs[REG_RAX] == SYS_rt_sigaction && regs[REG_RSI]) {
        struct kernel_action action = *(const struct kernel_action *)regs[REG_RSI];
        if (regs[REG_RDI] == SIGTRAP) {
            regs[REG_RAX] = 0;
        } else {
            action.mask &= ~SIGTRAP_BIT;
            regs[REG_RAX] = call(SYS_rt_sigaction, regs[REG_RDI], (long)&action, regs[REG_RDX], regs[REG_R10]);
        }
    } else {
        return 0;
    }
    regs[REG_RIP] += 2;
    return 1;
}

static void on_trap(int number, siginfo_t *info, void *opaque) {
    ucontext_t *context = opaque;
    greg_t *regs = context->uc_mcontext.gregs;
    uint64_t after = (uint64_t)regs[REG_RIP];
    (void)number, (void)info;
    if (before)
        keep(before, after);
    before = after;
    if (make_call(context))
        before = 0;
    if (atomic_fetch_sub(left, 1) <= 1) {
        regs[REG_EFL] &= ~TRAP_FLAG;
        before = 0;
        if (atomic_load(left) == 0)
            write_maps();
    }
}

__attribute__((constructor)) static void start(void) {
    const char *directory = getenv("LANDINGS"), *steps = getenv("LANDINGS_STEPS");
    char path[512];
    if (!directory)
        return;
    snprintf(path, sizeof path, "%s/%d.edges", directory, getpid());
    snprintf(maps_path, sizeof maps_path, "%s/%d.maps", directory, getpid());
    int file = open(path, O_RDWR | O_CREAT, 0644);
    size_t size = SLOTS * sizeof(struct edge);
    if (file < 0 || ftruncate(file, (off_t)size + 4096))
        return;
    edges = mmap(NULL, size + 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (edges == MAP_FAILED)
        return;
    left = (_Atomic long *)(edges + SLOTS);
    *left = steps ? atol(steps) : 1000000;
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART};
    sigaction(SIGTRAP, &action, NULL);
    __asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; orl $0x100, (%%rsp); popfq; lea 128(%%rsp), %%rsp" ::: "memory", "cc");
}

__attribute__((destructor)) static void stop(void) {
    if (edges)
        write_maps();
}
