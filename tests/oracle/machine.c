#define _GNU_SOURCE
#include "machine.h"

#include <string.h>
#include <sys/mman.h>

#define HLT 0xf4 /* #GP in user mode: where a jump to elsewhere in the code page ends */

static int map_at(uint64_t address, uint64_t size, int protection)
{
    void *mapped = mmap((void *)address, size, protection, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    return mapped == (void *)address ? 0 : -1;
}

int machine_map(void)
{
    if (map_at(CODE_PAGE, 0x1000, PROT_READ | PROT_WRITE | PROT_EXEC) != 0)
        return -1;
    memset((void *)CODE_PAGE, HLT, 0x1000);
    if (map_at(GUARD_PAGE, 0x1000, PROT_READ | PROT_WRITE) != 0)
        return -1;
    if (map_at(ARENA, ARENA_SIZE, PROT_READ | PROT_WRITE) != 0)
        return -1;
    return 0;
}

uint64_t machine_place(const uint8_t *code, unsigned count)
{
    uint64_t start = GUARD_PAGE - count;
    memset((void *)(GUARD_PAGE - CODE_BYTES), HLT, CODE_BYTES);
    memcpy((void *)start, code, CODE_BYTES); /* the rest goes to the guard page, where it cannot run */
    return start;
}
