#define _GNU_SOURCE
#include "tracer.h"

#include <elf.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine.h"
#include "search.h"

static pid_t child;
static uint8_t xstate[16384]; /* all of it: AMX's is the largest with 8 KiB */
static struct iovec fresh_xstate = {.iov_base = xstate};

/* A stop on another CPU costs a wake-up across cores, four times the stop itself. */
static void pin_here(void)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
}

static int child_start(void)
{
    cpu_set_t before;
    sched_getaffinity(0, sizeof before, &before);
    pin_here();
    child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        machine_load_tiles();
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        _exit(1);
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
        return -1;
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_EXITKILL);
    fresh_xstate.iov_len = sizeof xstate;
    return (int)ptrace(PTRACE_GETREGSET, child, NT_X86_XSTATE, &fresh_xstate);
}

void tracer_stop(void)
{
    if (child > 0) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    child = 0;
}

static void registers_load(struct user_regs_struct *regs, uint64_t start, uint8_t bits)
{
    unsigned long long *place[GPR_COUNT] = {&regs->rax, &regs->rcx, &regs->rdx, &regs->rbx, &regs->rsp, &regs->rbp,
                                            &regs->rsi, &regs->rdi, &regs->r8,  &regs->r9,  &regs->r10, &regs->r11,
                                            &regs->r12, &regs->r13, &regs->r14, &regs->r15};
    for (unsigned i = 0; i < GPR_COUNT; i++)
        *place[i] = start_gpr(i);
    regs->rip = start;
    regs->eflags = EFLAGS_START;
    regs->cs = bits == 64 ? CS_64 : CS_32;
    regs->ss = regs->ds = regs->es = regs->fs = regs->gs = DATA_SEGMENT;
    regs->fs_base = regs->gs_base = SEGMENT_BASE;
    regs->orig_rax = (unsigned long long)-1; /* no system call to restart */
}

/* The vector behind a signal, as far as siginfo tells. */
static uint8_t outcome_of(int number, const siginfo_t *info)
{
    switch (number) {
    case SIGTRAP: return info->si_code == SI_KERNEL ? OUT_BREAKPOINT : OUT_EXECUTED;
    case SIGILL: return OUT_UD;
    case SIGFPE: return OUT_DE;
    case SIGSEGV: return info->si_code == SI_KERNEL ? OUT_GP : OUT_PF;
    default: return 17; /* SIGBUS: #AC */
    }
}

static int child_step(const struct judge_in *in, uint8_t given, struct sight *sight)
{
    uint64_t start = machine_place(in->code, given); /* the mapping is shared with the child */
    memset((void *)ARENA, 0, ARENA_SIZE);
    struct user_regs_struct regs;
    if (ptrace(PTRACE_GETREGS, child, 0, &regs) != 0)
        return -1;
    registers_load(&regs, start, in->bits);
    if (ptrace(PTRACE_SETREGS, child, 0, &regs) != 0 || ptrace(PTRACE_SETREGSET, child, NT_X86_XSTATE, &fresh_xstate) != 0 ||
        ptrace(PTRACE_SINGLESTEP, child, 0, 0) != 0)
        return -1;
    int status;
    siginfo_t info;
    while (waitpid(child, &status, 0) != child)
        if (errno != EINTR)
            return -1;
    if (!WIFSTOPPED(status) || ptrace(PTRACE_GETREGS, child, 0, &regs) != 0 ||
        ptrace(PTRACE_GETSIGINFO, child, 0, &info) != 0)
        return -1;
    *sight = (struct sight){.outcome = outcome_of(WSTOPSIG(status), &info), .moved = (int64_t)(regs.rip - start)};
    if (sight->moved == 0)
        sight->fetch_fault = sight->outcome == OUT_PF && (uint64_t)info.si_addr == GUARD_PAGE;
    else if (sight->outcome != OUT_BREAKPOINT)
        sight->outcome = OUT_EXECUTED;
    return 0;
}

void tracer_judge(const struct judge_in *in, struct judge_out *out)
{
    struct search search;
    search_begin(&search, in, out);
    if (child == 0 && child_start() != 0) {
        out->outcome = OUT_DIED;
        return;
    }
    for (uint8_t given; (given = search_next(&search)) != 0;) {
        struct sight sight;
        if (child_step(in, given, &sight) != 0) {
            tracer_stop();
            out->outcome = OUT_DIED;
            return;
        }
        search_see(&search, given, sight);
    }
}
