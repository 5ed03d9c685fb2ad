/* What stands between a target and an int3 that no tracer looks at any more: a handler of SIGTRAP, in a page of its own.
 *
 * While a tracer is attached it suppresses the signal, and none of this runs. When the tracer dies, threads that run into
 * an int3 of ours come here and are sent to the slot of the site, where a copy of the instruction leads back. The page
 * needs nothing of the target: no libc, no data but its own, nothing below the stack pointer. Its mapping is readable and
 * executable; we write it from outside.
 *
 * The page begins with the healing gadget of remote calls (linux/remote_call.pxd). Behind the page: the frame of remote
 * calls, the list of areas, and the first table of sites. All offsets are in bytes from the page's start.
 */
#ifndef UPROBES_TRAP_PAGE_H
#define UPROBES_TRAP_PAGE_H

#include <stddef.h>
#include <stdint.h>

/* One entry of the table. */
typedef struct trap_entry {
    uint64_t site_vaddr; /* 0: empty */
    uint64_t go_vaddr;   /* where a thread that trapped there goes on; 0: nobody can help it */
} trap_entry_t;

/* What is written over the zeros from TRAP_DATA_OFF on. */
typedef struct trap_data {
    uint64_t table_vaddr;
    uint64_t shift; /* a site's home is (site * TRAP_HASH) >> shift */
    uint64_t mask;  /* entries - 1 */
    uint64_t areas; /* how many */
    uint64_t before[4]; /* the kernel's struct sigaction that was there before: handler, flags, restorer, mask */
    uint64_t none[4];   /* the default one */
    uint64_t ours[4];
    uint64_t trap_mask; /* a signal set with SIGTRAP alone */
} trap_data_t;

enum {
    TRAP_DATA_OFF = 0x40,
    TRAP_BEFORE_OFF = TRAP_DATA_OFF + offsetof(trap_data_t, before),
    TRAP_OURS_OFF = TRAP_DATA_OFF + offsetof(trap_data_t, ours),
    TRAP_HANDLER_OFF = 0x100,
    TRAP_RESTORER_OFF = 0x240,
    TRAP_CODE_SIZE = 0x280,
    TRAP_FRAME_OFF = 0x1000, /* SIGFRAME_MAX bytes */
    TRAP_AREAS_OFF = 0x5000, /* 2,048 pairs of start and end */
    TRAP_TABLE_OFF = 0xd000,
    TRAP_TABLE_ENTRIES = 256,
    TRAP_AREA_SIZE = 0xe000
};

#define TRAP_HASH 0x9e3779b97f4a7c15ull
#define TRAP_NAME "uprobes traps"

_Static_assert(TRAP_DATA_OFF + sizeof(trap_data_t) <= TRAP_HANDLER_OFF, "the data ends before the handler");

__asm__(
    ".pushsection .rodata\n"
    ".balign 64\n"
    ".globl uprobes_trap_page\n"
    ".hidden uprobes_trap_page\n"
    "uprobes_trap_page:\n"
    ".Ltrap_page:\n"
    /* The healing gadget. rsp is the task's own until the call has been made. */
    "    syscall\n"
    "    leaq .Ltrap_page + 0x1000 + 8(%rip), %rsp\n"
    "    movq $15, %rax\n" /* rt_sigreturn */
    "    syscall\n"
    "    .ascii \"" TRAP_NAME "\"\n"
    "    .org .Ltrap_page + 0x40, 0\n"
    ".Ltable:   .quad 0\n"
    ".Lshift:   .quad 0\n"
    ".Lmask:    .quad 0\n"
    ".Lareas:   .quad 0\n"
    ".Lbefore:  .quad 0, 0, 0, 0\n"
    ".Lnone:    .quad 0, 0, 0, 0\n"
    ".Lours:    .quad 0, 0, 0, 0\n"
    ".Lset:     .quad 0\n"
    "    .org .Ltrap_page + 0x100, 0xcc\n"
    /* rdi: the signal, rsi: siginfo, rdx: ucontext. Returning restores every register. */
    ".Lhandler:\n"
    "    movl 8(%rsi), %eax\n"   /* si_code */
    "    movq 168(%rdx), %r8\n"  /* rip */
    "    cmpl $0x80, %eax\n"     /* SI_KERNEL: an int3 */
    "    je 1f\n"
    "    cmpl $2, %eax\n"        /* TRAP_TRACE: a step, */
    "    jne .Lchain\n"
    "    movq 16(%rsi), %r8\n"   /* which ended at si_addr */
    "    jmp .Linside\n"
    /* The tracer marks the registers of a hit that it has served with RF, which an int3 leaves clear (SDM vol. 3,
     * 17.3.1.1): it died before it could take the signal back. */
    "1:  btl $16, 176(%rdx)\n"
    "    jc .Ldone\n"
    "    leaq -1(%r8), %r9\n"
    "    movabsq $0x9e3779b97f4a7c15, %rax\n"
    "    imulq %r9, %rax\n"
    "    movq .Lshift(%rip), %rcx\n"
    "    shrq %cl, %rax\n"
    "    movq .Lmask(%rip), %r11\n"
    "    movq .Ltable(%rip), %r10\n"
    "    testq %r10, %r10\n"
    "    jz .Linside\n"
    "2:  movq %rax, %rcx\n"
    "    shlq $4, %rcx\n"
    "    addq %r10, %rcx\n"
    "    cmpq %r9, (%rcx)\n"
    "    je .Lfound\n"
    "    cmpq $0, (%rcx)\n"
    "    je .Linside\n"
    "    incq %rax\n"
    "    andq %r11, %rax\n"
    "    jmp 2b\n"
    ".Lfound:\n"
    "    movq 8(%rcx), %rax\n"
    "    testq %rax, %rax\n"
    "    jz .Lchain\n"
    "    movq %rax, 168(%rdx)\n"
    ".Ldone:\n"
    "    ret\n"
    /* On its way through a slot of ours: that is right as it is. */
    ".Linside:\n"
    "    movq .Lareas(%rip), %r10\n"
    "    leaq .Ltrap_page + 0x5000(%rip), %rcx\n"
    "3:  testq %r10, %r10\n"
    "    jz .Lchain\n"
    "    cmpq (%rcx), %r8\n"
    "    jb 4f\n"
    "    cmpq 8(%rcx), %r8\n"
    "    jb .Ldone\n"
    "4:  addq $16, %rcx\n"
    "    decq %r10\n"
    "    jmp 3b\n"
    /* Not ours: as it was before. */
    ".Lchain:\n"
    "    movq .Lbefore(%rip), %rax\n"
    "    cmpq $1, %rax\n"
    "    ja .Ltheirs\n"
    "    jb .Ldefault\n"
    "    cmpl $0, 8(%rsi)\n"     /* ignored; but what the kernel itself raises cannot be */
    "    jle .Ldone\n"
    /* The default is put back and the same signal raised again, to be delivered when we have returned. */
    ".Ldefault:\n"
    "    movq %rsi, %r12\n"
    "    movl $5, %edi\n"        /* rt_sigaction(SIGTRAP, none, NULL, 8) */
    "    leaq .Lnone(%rip), %rsi\n"
    "    xorl %edx, %edx\n"
    "    movl $8, %r10d\n"
    "    movl $13, %eax\n"
    "    syscall\n"
    "    xorl %edi, %edi\n"      /* rt_sigprocmask(SIG_BLOCK, set, NULL, 8) */
    "    leaq .Lset(%rip), %rsi\n"
    "    xorl %edx, %edx\n"
    "    movl $8, %r10d\n"
    "    movl $14, %eax\n"
    "    syscall\n"
    "    movl $186, %eax\n"      /* gettid() */
    "    syscall\n"
    "    movl %eax, %r13d\n"
    "    movl $39, %eax\n"       /* getpid() */
    "    syscall\n"
    "    movl %eax, %edi\n"      /* rt_tgsigqueueinfo(pid, tid, SIGTRAP, siginfo) */
    "    movl %r13d, %esi\n"
    "    movl $5, %edx\n"
    "    movq %r12, %r10\n"
    "    movl $297, %eax\n"
    "    syscall\n"
    "    ret\n"
    ".Ltheirs:\n"
    "    jmp *%rax\n"
    "    .org .Ltrap_page + 0x240, 0xcc\n"
    /* Unwinders know a signal's frame by these very bytes. */
    "    movq $15, %rax\n"
    "    syscall\n"
    "    .org .Ltrap_page + 0x280, 0xcc\n"
    ".popsection\n");

__attribute__((visibility("hidden"))) extern const uint8_t uprobes_trap_page[];

#endif
