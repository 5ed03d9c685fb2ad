/* The kernel's signal frame of x86-64 (arch/x86/include/asm/sigframe.h, uapi/asm/sigcontext.h), as rt_sigreturn reads it.
 * The C library's structs are not the kernel's: its sigset_t has 128 bytes. */
#ifndef UPROBES_SIGFRAME_H
#define UPROBES_SIGFRAME_H

#include <cpuid.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sigframe {
    uint64_t restorer;
    uint64_t flags; /* enum below */
    uint64_t link;
    uint64_t stack_vaddr;
    uint64_t stack_flags;
    uint64_t stack_size;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
    uint16_t cs, gs, fs, ss;
    uint64_t error, trap, old_mask, cr2;
    uint64_t fpstate_vaddr;
    uint64_t reserved[8];
    uint64_t mask;
    uint8_t siginfo[128];
} sigframe_t;

_Static_assert(offsetof(sigframe_t, r8) == 48 && offsetof(sigframe_t, mask) == 304, "ucontext");
_Static_assert(sizeof(sigframe_t) == 440, "rt_sigframe");

enum {
    UC_XSTATE = 1,       /* UC_FP_XSTATE: the extended state follows the legacy one */
    UC_STACK_SEGMENT = 2, /* UC_SIGCONTEXT_SS: ss is in the frame */
    UC_STACK_STRICT = 4   /* UC_STRICT_RESTORE_SS */
};

/* The tail of the legacy FXSAVE area that the kernel and the C library leave to software: struct _fpx_sw_bytes. */
typedef struct xstate_words {
    uint32_t magic1, extended_size;
    uint64_t features;
    uint32_t xstate_size, padding[7];
} xstate_words_t;

enum {
    XSTATE_WORDS_OFF = 464,
    XSTATE_HEADER_OFF = 512, /* XSTATE_BV: the components that are in use (SDM vol. 1, 13.4.2) */
    XSTATE_MIN = 576,
    XSTATE_TILE_DATA = 18    /* the only component that a process has to ask for (Linux arch_prctl, ARCH_REQ_XCOMP_PERM) */
};

#define XSTATE_MAGIC1 0x46505853u
#define XSTATE_MAGIC2 0x46505845u

/* Where the state of the components `features` ends, in the standard format. */
static inline uint32_t xstate_end(uint64_t features) {
    uint32_t end = XSTATE_MIN, size, offset, c, d;
    for (int component = 2; component < 63; component++) {
        if (!(features >> component & 1))
            continue;
        __cpuid_count(0xd, component, size, offset, c, d);
        if (offset + size > end)
            end = offset + size;
    }
    return end;
}

#endif
