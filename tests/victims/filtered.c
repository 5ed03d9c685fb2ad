/* Runs under a seccomp filter, by the argument: kill, trap, errno (each for what maps memory), allow (a filter that lets
 * all of it pass), strict (read, write and end only). Each order is a number of calls of `load`, whose operand is relative
 * to the instruction, and of `work`. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "victim.h"

static uint64_t calls;
static volatile uint64_t cell = 5;

PROBED uint64_t load(uint64_t value)
{
    return value + cell;
}

PROBED uint64_t work(uint64_t value)
{
    return value * 3 + 1;
}

static void filter(unsigned action)
{
    static const int numbers[] = {SYS_mmap, SYS_mprotect, SYS_munmap, SYS_memfd_create, SYS_rt_sigaction, 462};
    enum { COUNT = sizeof numbers / sizeof *numbers };
    struct sock_filter code[COUNT * 2 + 2];
    unsigned at = 0;
    code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < COUNT; i++) {
        code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)numbers[i], 0, 1);
        code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action);
    }
    code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {(unsigned short)at, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        abort();
}

int main(int argc, char **argv)
{
    static char out[4096], in[4096];
    const char *how = argc > 1 ? argv[1] : "kill";
    volatile uint64_t value = 1;
    setvbuf(stdout, out, _IOFBF, sizeof out);
    setvbuf(stdin, in, _IOLBF, sizeof in);
    if (!strcmp(how, "strict")) {
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
            abort();
    } else
        filter(!strcmp(how, "kill") ? SECCOMP_RET_KILL_PROCESS : !strcmp(how, "trap") ? SECCOMP_RET_TRAP
               : !strcmp(how, "errno") ? SECCOMP_RET_ERRNO | EPERM : SECCOMP_RET_ALLOW);
    victim_ready();
    for (long order; (order = victim_order()) > 0;) {
        for (; order > 0; order--, calls++)
            value = work(load(value));
        victim_report("done", calls);
    }
    victim_report("work", calls);
    fflush(stdout);
    syscall(SYS_exit, 0);
}
