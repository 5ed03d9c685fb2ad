/* The handler may not touch thread-local storage: the judged instruction may have changed the FS base. So: no
 * stack protector, no errno, system calls made by hand. */
#define _GNU_SOURCE
#include "sandbox.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "machine.h"
#include "search.h"
#include "vector.h"

#define PF_FETCH 0x10 /* error code of #PF: instruction fetch (SDM vol. 3, 4.7) */
#define HWCAP2_HAS_FSGSBASE 2
#define STACK_SIZE 0x20000

static struct {
    struct batch *batch;
    int go, done;
    bool running;     /* a judged instruction is what raised this signal */
    bool has_fsgsbase;
    uint32_t index, count; /* records done, records in the batch */
    uint64_t start;   /* of the bytes in the current run */
    uint8_t given;    /* how many there are */
    struct search search;
} state;

/* GPR numbers as encoded → places in the signal frame. */
static const uint8_t frame_place[GPR_COUNT] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                               REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static long raw_syscall(long number, long a, long b, long c)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "0"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

/* ---- what a run did ---------------------------------------------------------------------------- */

static struct sight sight_read(const greg_t *frame)
{
    uint64_t ip = (uint64_t)frame[REG_RIP], vector = (uint64_t)frame[REG_TRAPNO];
    struct sight sight = {.outcome = (uint8_t)vector, .moved = (int64_t)(ip - state.start)};
    if (ip == state.start) {
        sight.fetch_fault = vector == OUT_PF && (frame[REG_ERR] & PF_FETCH) && (uint64_t)frame[REG_CR2] == GUARD_PAGE;
        return sight;
    }
    /* A fault elsewhere belongs to what comes next: the trap was swallowed (mov ss, syscall, an instruction
     * that the kernel emulates), and this one is done. */
    if (vector != OUT_EXECUTED && vector != OUT_BREAKPOINT && vector != OUT_OVERFLOW)
        sight.outcome = OUT_EXECUTED;
    return sight;
}

static uint64_t memory_hash(void)
{
    return hash_words((const uint64_t *)ARENA, ARENA_SIZE / 8);
}

static void execute_report(struct execute_out *out, const ucontext_t *context)
{
    const greg_t *frame = context->uc_mcontext.gregs;
    struct sight sight = sight_read(frame);
    for (unsigned i = 0; i < GPR_COUNT; i++)
        out->gpr[i] = (uint64_t)frame[frame_place[i]];
    out->eflags = (uint64_t)frame[REG_EFL] & ~(uint64_t)TRAP_FLAG;
    out->moved = sight.moved;
    out->outcome = sight.fetch_fault ? OUT_TOO_FEW : sight.outcome;
    out->stop = (uint8_t)frame[REG_TRAPNO];
    out->memory = memory_hash();
    out->vector = vector_hash(context->uc_mcontext.fpregs);
}

/* ---- the next run ------------------------------------------------------------------------------- */

static void segments_reset(uint64_t base)
{
    uint16_t data = DATA_SEGMENT;
    __asm__ volatile("mov %0, %%ds\n\tmov %0, %%es\n\tmov %0, %%fs\n\tmov %0, %%gs" ::"r"(data));
    if (state.has_fsgsbase)
        __asm__ volatile("wrfsbase %0\n\twrgsbase %0" ::"r"(base));
}

static void frame_begin(ucontext_t *context, const uint8_t *code, uint8_t given, uint8_t bits)
{
    greg_t *frame = context->uc_mcontext.gregs;
    state.given = given;
    state.start = machine_place(code, given);
    state.running = true;
    frame[REG_RIP] = (greg_t)state.start;
    uint64_t cs = bits == 64 ? CS_64 : CS_32;
    frame[REG_CSGSFS] = (greg_t)(cs | (uint64_t)DATA_SEGMENT << 48); /* cs, gs, fs, ss: 16 bits each */
    context->uc_flags |= 0x6; /* UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS: take SS from the frame as it is */
    segments_reset(SEGMENT_BASE);
}

static void judge_run(ucontext_t *context, uint8_t given)
{
    greg_t *frame = context->uc_mcontext.gregs;
    frame_begin(context, state.search.in->code, given, state.search.in->bits);
    for (unsigned i = 0; i < GPR_COUNT; i++)
        frame[frame_place[i]] = (greg_t)start_gpr(i);
    frame[REG_EFL] = EFLAGS_START | (search_steps(state.search.in, given) ? TRAP_FLAG : 0);
    memset((void *)ARENA, 0, ARENA_SIZE);
    vector_clear(context->uc_mcontext.fpregs);
}

static void execute_run(ucontext_t *context, const struct execute_in *in)
{
    greg_t *frame = context->uc_mcontext.gregs;
    frame_begin(context, in->code, in->length, in->bits);
    for (unsigned i = 0; i < GPR_COUNT; i++)
        frame[frame_place[i]] = (greg_t)in->gpr[i];
    frame[REG_EFL] = (greg_t)(in->eflags | EFLAGS_START | (in->step ? TRAP_FLAG : 0));
    fill_words((uint64_t *)ARENA, ARENA_SIZE / 8, in->fill);
    vector_fill(context->uc_mcontext.fpregs);
}

/* ---- the loop ------------------------------------------------------------------------------------ */

static void batch_wait(void)
{
    char byte = 0;
    if (raw_syscall(SYS_read, state.go, (long)&byte, 1) != 1)
        raw_syscall(SYS_exit_group, 0, 0, 0);
    state.index = state.batch->first;
    state.count = state.batch->count;
}

static bool judge_step(ucontext_t *context)
{
    struct batch *batch = state.batch;
    if (state.running) {
        search_see(&state.search, state.given, sight_read(context->uc_mcontext.gregs));
    } else {
        batch->current = state.index;
        if (batch->judge.in[state.index].hint & HINT_PTRACE)
            return false;
        search_begin(&state.search, &batch->judge.in[state.index], &batch->judge.out[state.index]);
    }
    uint8_t given = search_next(&state.search);
    if (given == 0)
        return false;
    judge_run(context, given);
    return true;
}

static bool execute_step(ucontext_t *context)
{
    struct batch *batch = state.batch;
    if (state.running) {
        execute_report(&batch->execute.out[state.index], context);
        return false;
    }
    batch->current = state.index;
    execute_run(context, &batch->execute.in[state.index]);
    return true;
}

__attribute__((used)) static void handle_signal(int number, siginfo_t *info, void *opaque)
{
    (void)number;
    (void)info;
    ucontext_t *context = opaque;
    struct batch *batch = state.batch;
    for (;;) {
        if (!state.running && state.index >= state.count) {
            if (state.count != 0)
                raw_syscall(SYS_write, state.done, (long)"", 1);
            batch_wait();
            continue;
        }
        bool more = batch->kind == BATCH_JUDGE ? judge_step(context) : execute_step(context);
        if (more)
            return;
        state.running = false;
        state.index++;
    }
}

/* Entered with whatever AC and NT the judged instruction left; C code must not run with them. */
__attribute__((naked)) static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)info;
    (void)context;
    __asm__("pushq $0x2\n\tpopfq\n\tjmp handle_signal");
}

/* ---- confinement ---------------------------------------------------------------------------------- */

#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define DENY BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 38) /* ENOSYS */
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define SKIP_UNLESS(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (skip))

/* Allows sigreturn, exit, reads from `go` and writes to `done`. */
static int syscalls_confine(int go, int done)
{
    struct sock_filter filter[] = {
        LOAD(arch), SKIP_UNLESS(AUDIT_ARCH_X86_64, 13),
        LOAD(nr),   SKIP_UNLESS(SYS_rt_sigreturn, 1), ALLOW,
        SKIP_UNLESS(SYS_exit_group, 1), ALLOW,
        SKIP_UNLESS(SYS_read, 3), LOAD(args[0]), SKIP_UNLESS((uint32_t)go, 5), ALLOW,
        SKIP_UNLESS(SYS_write, 3), LOAD(args[0]), SKIP_UNLESS((uint32_t)done, 1), ALLOW,
        DENY,
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int handlers_install(void)
{
    static const int signals[] = {SIGSEGV, SIGILL, SIGTRAP, SIGFPE, SIGBUS};
    stack_t stack = {.ss_size = STACK_SIZE};
    stack.ss_sp = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack.ss_sp == MAP_FAILED || sigaltstack(&stack, NULL) != 0)
        return -1;
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigfillset(&action.sa_mask);
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
        if (sigaction(signals[i], &action, NULL) != 0)
            return -1;
    return 0;
}

_Noreturn void sandbox_serve(struct batch *batch, int go, int done)
{
    state.batch = batch;
    state.go = go;
    state.done = done;
    state.has_fsgsbase = getauxval(AT_HWCAP2) & HWCAP2_HAS_FSGSBASE;
    if (handlers_install() == 0 && syscalls_confine(go, done) == 0)
        __asm__ volatile("ud2"); /* into the handler, for good */
    _exit(1);
}
