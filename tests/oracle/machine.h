/* The state that every judged instruction starts from. */
#ifndef ORACLE_MACHINE_H
#define ORACLE_MACHINE_H

#include <stdint.h>

#include "layout.h"

#define CS_64 0x33u /* the kernel's user code segments; SS and data are 0x2b in both modes */
#define CS_32 0x23u
#define DATA_SEGMENT 0x2bu
#define EFLAGS_START 0x202u /* interrupts and the reserved bit */
#define TRAP_FLAG 0x100u
#define SEGMENT_BASE 0x40u /* of FS and GS: not 0, and small enough that a pointer stays in HOT */

/* Values that point into HOT, apart from each other and 64-byte aligned: aligned moves and cmpxchg16b do not
 * fault, and string instructions read and write mapped memory. RAX is no system call and no hypercall number;
 * RCX is not 0, so that mwaitx raises #GP and does not wait. */
static inline uint64_t start_gpr(unsigned number)
{
    static const uint16_t place[GPR_COUNT] = {0x8000, 0x7e40, 0x7d80, 0x7cc0, 0x8100, 0x8200, 0x8300, 0x8400,
                                              0x8500, 0x8600, 0x7b00, 0x7a00, 0x7900, 0x7800, 0x8700, 0x8740};
    return ARENA + place[number];
}

/* Maps the code page, its guard and the arena at their addresses. Returns 0 or -1 (errno says why). */
int machine_map(void);

/* Puts `count` bytes of `code` so that the next byte is the guard page's first. Returns the first one's address. */
uint64_t machine_place(const uint8_t *code, unsigned count);

#endif
