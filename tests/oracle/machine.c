#define _GNU_SOURCE
#include "machine.h"

#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 0x1000ul
#define HLT 0xf4 /* #GP in user mode: where a jump to elsewhere in the code page ends */

#define ARCH_REQ_XCOMP_PERM 0x1023 /* asm/prctl.h, from Linux 5.16 on */
#define COMPONENT_TILE_DATA 18

static bool has_tiles;
static uint8_t *code_alias; /* the code page once more, far away and writable */

static int map_at(uint64_t address, uint64_t size)
{
    int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    void *mapped = mmap((void *)address, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    return mapped == (void *)address ? 0 : -1;
}

int machine_map(void)
{
    if (map_at(CODE_PAGE, PAGE) != 0 || map_at(GUARD_PAGE, PAGE) != 0 || map_at(ARENA, ARENA_SIZE) != 0)
        return -1;
    code_alias = mremap((void *)CODE_PAGE, 0, PAGE, MREMAP_MAYMOVE); /* old size 0: maps shared memory again */
    if (code_alias == MAP_FAILED)
        return -1;
    memset(code_alias, HLT, PAGE);
    return mprotect((void *)CODE_PAGE, PAGE, PROT_READ | PROT_EXEC);
}

void machine_ask_tiles(void)
{
    has_tiles = syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, COMPONENT_TILE_DATA) == 0;
}

void machine_load_tiles(void)
{
    struct tile_config config = tile_config();
    if (has_tiles)
        __asm__ volatile("ldtilecfg %0" ::"m"(config));
}

uint64_t machine_place(const uint8_t *code, unsigned count)
{
    memset(code_alias + PAGE - CODE_BYTES, HLT, CODE_BYTES);
    memcpy(code_alias + PAGE - count, code, count);
    memset((void *)GUARD_PAGE, 0, PAGE); /* rip-relative operands lie there */
    return GUARD_PAGE - count;
}
