"""registers.h for Cython: general registers of regs_t by their number in the encoding, 0 to 15."""

from libc.stdint cimport uint64_t

from uprobe_core.abi cimport regs_t

cdef extern from "registers.h" nogil:
    const unsigned int REG_RAX "GPR_RAX"
    const unsigned int REG_RCX "GPR_RCX"
    const unsigned int REG_RSP "GPR_RSP"
    const unsigned int REG_RBP "GPR_RBP"
    const unsigned int REG_RSI "GPR_RSI"
    const unsigned int REG_RDI "GPR_RDI"

    # Which word of regs_t it is.
    unsigned int regs_word(unsigned int number)
    uint64_t regs_get(const regs_t *regs, unsigned int number)
    void regs_set(regs_t *regs, unsigned int number, uint64_t value)
