#define _GNU_SOURCE
#include "machine.h"

#include <string.h>
#include <sys/mman.h>

#define PAGE 0x1000ul
#define HLT 0xf4 /* #GP in user mode: where a jump to elsewhere in the code page ends */

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

uint64_t machine_place(const uint8_t *code, unsigned count)
{
    memset(code_alias + PAGE - CODE_BYTES, HLT, CODE_BYTES);
    memcpy(code_alias + PAGE - count, code, count);
    memset((void *)GUARD_PAGE, 0, PAGE); /* rip-relative operands lie there */
    return GUARD_PAGE - count;
}
