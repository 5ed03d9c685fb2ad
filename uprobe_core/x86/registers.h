/* General registers of regs_t by their number in the encoding. */
#ifndef UPROBES_REGISTERS_H
#define UPROBES_REGISTERS_H

#include "abi.h"

#define REG_RAX 0
#define REG_RCX 1
#define REG_RSP 4
#define REG_RBP 5
#define REG_RSI 6
#define REG_RDI 7

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
