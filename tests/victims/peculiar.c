/* Functions that look at what a tracer is likely to disturb: flags, what syscall leaves behind, the red zone, where a
 * signal finds the program. Each order is a number of rounds; "wrong" counts what was not as it must be. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include "victim.h"

#define FUNCTION(name, body) \
    __asm__(".globl " name "\n.type " name ", @function\n" name ":\n" body ".size " name ", . - " name "\n")

/* The flags as pushf shows them. */
uint64_t pushed_flags(void);
FUNCTION("pushed_flags", "pushfq\n pop %rax\n ret\n");

/* Sets and clears CF and DF through popf; returns what is left of them. */
uint64_t popped_flags(uint64_t image);
FUNCTION("popped_flags", "push %rdi\n popfq\n pushfq\n pop %rax\n cld\n ret\n");

/* getpid; 0 when rcx and r11 are what syscall must leave there. */
uint64_t system_call(void);
FUNCTION("system_call", "pushfq\n pop %rdx\n mov $39, %eax\n syscall\n 1: lea 1b(%rip), %rax\n sub %rcx, %rax\n"
                        "xor %r11, %rdx\n or %rdx, %rax\n ret\n");

/* The same by int 0x80, which leaves rcx alone. */
uint64_t interrupt_80(void);
FUNCTION("interrupt_80", "push %rbx\n mov $20, %eax\n mov $77, %ecx\n int $0x80\n lea -77(%rcx), %rax\n pop %rbx\n ret\n");

/* Reads one byte; the system call's result. */
long read_byte(int descriptor, void *byte);
FUNCTION("read_byte", "mov $1, %edx\n xor %eax, %eax\n syscall\n ret\n");

/* Leaf code that lives in the red zone, all 128 bytes of it, across every kind of instruction that is rewritten. */
uint64_t red_zone(uint64_t value);
FUNCTION("red_zone",
         "mov %rdi, -128(%rsp)\n mov %rdi, -64(%rsp)\n mov %rdi, -8(%rsp)\n"
         "lea 3f(%rip), %rcx\n mov 3f(%rip), %rdx\n test %rdi, %rdi\n jz 1f\n jmp 1f\n 1: jrcxz 2f\n"
         "jmp *%rcx\n .balign 8\n 3: nop\n 2: mov -128(%rsp), %rax\n sub -64(%rsp), %rax\n add -8(%rsp), %rax\n"
         "ret\n");

/* Calls through the stack: [rsp], [rsp-8] (which the call overwrites), rsp-relative with an index. */
uint64_t stack_calls(uint64_t value);
FUNCTION("stack_calls",
         "lea 9f(%rip), %rdx\n xor %eax, %eax\n xor %ecx, %ecx\n push %rdx\n call *(%rsp)\n call *(%rsp,%rcx,8)\n"
         "mov %rdx, -8(%rsp)\n call *-8(%rsp)\n pop %rdx\n ret\n 9: add %rdi, %rax\n ret\n");

/* Strings, both ways and of no length. */
uint64_t strings(void *to, const void *from, uint64_t size);
FUNCTION("strings",
         "mov %rdx, %rcx\n rep movsb\n std\n dec %rdi\n mov %rdx, %rcx\n mov $42, %al\n repne scasb\n cld\n"
         "mov %rcx, %rax\n xor %ecx, %ecx\n rep stosb\n ret\n");

/* What other tools execute as something else, or lose. */
uint64_t encodings(uint64_t value);
FUNCTION("encodings",
         "mov %rdi, %r8\n mov $1, %eax\n .byte 0x41, 0x90\n" /* xchg r8d, eax */
         ".byte 0xf2, 0x48, 0x0f, 0x44, 0x0d\n .long 8f - . - 4\n" /* cmove rcx, [rip], with f2 */
         "lock xaddq %rax, 7f(%rip)\n movq %rax, %xmm1\n .byte 0xc5, 0xf1, 0xeb, 0xc1\n" /* vpor */
         "movq %xmm0, %rax\n add %r8, %rax\n ret\n .balign 8\n 8: .quad 5\n"
         ".pushsection .data\n 7: .quad 9\n .popsection\n");

/* Faults at its first instruction when the address is bad; 1 when a handler sent it on. */
uint64_t faulting_load(const uint64_t *address);
extern const char faulting_load_end[];
FUNCTION("faulting_load", "mov (%rdi), %rax\n .globl faulting_load_end\n faulting_load_end: mov $1, %eax\n ret\n");

/* Divides by zero at its third instruction. */
uint64_t faulting_divide(uint64_t divisor);
extern const char faulting_divide_at[], faulting_divide_end[];
FUNCTION("faulting_divide", "mov $1, %eax\n xor %edx, %edx\n .globl faulting_divide_at\n faulting_divide_at: div %rdi\n"
                            ".globl faulting_divide_end\n faulting_divide_end: mov $1, %eax\n ret\n");

static struct { uint64_t start, end; } code[64];
static int code_count, pipe_ends[2], pipe_owed;
static volatile uint64_t ticks, strange_ips, faults_elsewhere;

static void read_code(void)
{
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps) && code_count < 64) {
        unsigned long start, end;
        char rights[5];
        if (sscanf(line, "%lx-%lx %4s", &start, &end, rights) == 3 && rights[2] == 'x') {
            code[code_count].start = start;
            code[code_count++].end = end;
        }
    }
    fclose(maps);
}

static void on_tick(int number, siginfo_t *info, void *context)
{
    uint64_t ip = (uint64_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    int known = 0;
    (void)number;
    (void)info;
    for (int i = 0; i < code_count; i++)
        known |= code[i].start <= ip && ip < code[i].end;
    strange_ips += !known;
    ticks++;
    if (pipe_owed && ticks % 4 == 0) {
        pipe_owed--;
        if (write(pipe_ends[1], "x", 1) != 1)
            abort();
    }
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    uint64_t ip = (uint64_t)registers[REG_RIP];
    if (number == SIGSEGV) {
        faults_elsewhere += ip != (uint64_t)faulting_load || info->si_addr != (void *)16;
        registers[REG_RIP] = (greg_t)faulting_load_end;
    } else {
        faults_elsewhere += ip != (uint64_t)faulting_divide_at || info->si_addr != (void *)faulting_divide_at;
        registers[REG_RIP] = (greg_t)faulting_divide_end;
    }
}

static void handle(int number, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    sigaction(number, &action, NULL);
}

/* One byte that the handler of a later tick writes: the read is interrupted and restarted until then. */
static uint64_t wait_for_byte(void)
{
    char byte = 0;
    pipe_owed++;
    return read_byte(pipe_ends[0], &byte) != 1 || byte != 'x';
}

int main(int count, char **arguments)
{
    static char from[64] = "a string with a star * in the middle", to[64];
    const long interval = count > 1 ? strtol(arguments[1], NULL, 10) : 0;
    uint64_t wrong = 0, sum = 0, rounds = 0;
    struct itimerval timer = {{0, interval}, {0, interval}};
    read_code();
    handle(SIGSEGV, on_fault, 0);
    handle(SIGFPE, on_fault, 0);
    handle(SIGALRM, on_tick, SA_RESTART);
    if (pipe(pipe_ends))
        return 1;
    victim_ready();
    for (long order; (order = victim_order()) > 0;) {
        setitimer(ITIMER_REAL, &timer, NULL);
        for (long i = 0; i < order; i++, rounds++) {
            wrong += (pushed_flags() & 0x100) != 0;
            wrong += (popped_flags(0x246) & 0x501) != 0;
            wrong += (popped_flags(0x647) & 0x501) != 0x401;
            wrong += system_call() != 0;
            wrong += interrupt_80() != 0;
            wrong += red_zone((uint64_t)rounds) != rounds;
            wrong += stack_calls(rounds) != 3 * rounds;
            sum += strings(to, from, sizeof from) + (uint64_t)to[22];
            sum += encodings(rounds);
            wrong += faulting_load((const uint64_t *)16) != 1;
            wrong += faulting_divide(0) != 1;
            if (interval && rounds % 16 == 0)
                wrong += wait_for_byte();
        }
        timer.it_value.tv_usec = timer.it_interval.tv_usec = 0;
        setitimer(ITIMER_REAL, &timer, NULL);
        timer.it_value.tv_usec = timer.it_interval.tv_usec = interval;
        victim_report("rounds", rounds);
    }
    victim_report("wrong", wrong);
    victim_report("strange_ips", strange_ips);
    victim_report("faults_elsewhere", faults_elsewhere);
    victim_report("ticked", ticks > 0);
    victim_report("sum", sum);
    return 0;
}
