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
#define SEGMENT_BASE 0x40u /* of FS and GS: not 0, and small enough that a pointer stays in the arena */

/* Values that point into the arena, apart from each other and 64-byte aligned: aligned moves and cmpxchg16b do not
 * fault, and string instructions read and write mapped memory. RAX is no system call and no hypercall number;
 * RCX is not 0, so that mwaitx raises #GP and does not wait. */
static inline uint64_t start_gpr(unsigned number)
{
    static const uint16_t place[GPR_COUNT] = {0x1000, 0xe40, 0xd80, 0xcc0, 0x1100, 0x1200, 0x1300, 0x1400,
                                              0x1500, 0x1600, 0xb00, 0xa00, 0x900, 0x800, 0x1700, 0x1740};
    return ARENA + place[number];
}

/* What LDTILECFG loads (SDM vol. 1, 18.2). Without a configuration every AMX instruction raises #UD. */
struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* Palette 1, and all eight tiles as large as it has them. */
static inline struct tile_config tile_config(void)
{
    struct tile_config config = {.palette = 1};
    for (unsigned i = 0; i < 8; i++) {
        config.row_bytes[i] = 64;
        config.rows[i] = 16;
    }
    return config;
}

/* Asks the kernel for the tiles, for this process and its children; harmless where there are none. */
void machine_ask_tiles(void);

/* Configures the tiles of this thread, where there are any. */
void machine_load_tiles(void);

/* Maps the code page, its guard and the arena at their addresses. Returns 0 or -1 (errno says why). */
int machine_map(void);

/* Puts `count` bytes of `code` so that the next byte is the guard page's first, and clears the guard page.
 * Returns the address of the first byte. */
uint64_t machine_place(const uint8_t *code, unsigned count);

#endif
