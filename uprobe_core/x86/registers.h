/* General registers of regs_t by their number in the encoding. (REG_RAX and so on are taken by <sys/ucontext.h>.) */
#ifndef UPROBES_REGISTERS_H
#define UPROBES_REGISTERS_H

#include "abi.h"

#define GPR_RAX 0
#define GPR_RCX 1
#define GPR_RSP 4
#define GPR_RBP 5
#define GPR_RSI 6
#define GPR_RDI 7

#define REGS_INDEX(field) (offsetof(regs_t, field) / sizeof(uint64_t))

static const uint8_t regs_index[16] = {
    REGS_INDEX(rax), REGS_INDEX(rcx), REGS_INDEX(rdx), REGS_INDEX(rbx), REGS_INDEX(rsp), REGS_INDEX(rbp),
    REGS_INDEX(rsi), REGS_INDEX(rdi), REGS_INDEX(r8),  REGS_INDEX(r9),  REGS_INDEX(r10), REGS_INDEX(r11),
    REGS_INDEX(r12), REGS_INDEX(r13), REGS_INDEX(r14), REGS_INDEX(r15)};

static inline unsigned regs_word(unsigned number) {
    return regs_index[number & 15];
}

static inline uint64_t regs_get(const regs_t *regs, unsigned number) {
    return ((const uint64_t *)regs)[regs_index[number & 15]];
}

static inline void regs_set(regs_t *regs, unsigned number, uint64_t value) {
    ((uint64_t *)regs)[regs_index[number & 15]] = value;
}

#endif
