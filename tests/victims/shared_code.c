/* Code in a mapping that is shared with its file: a write would reach the file. */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include "victim.h"

static const unsigned char code[] = {0x90, 0xc3};

int main(void)
{
    const int file = memfd_create("code", 0);
    if (file < 0 || write(file, code, sizeof code) != sizeof code)
        return 1;
    void (*const call)(void) = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
    if (call == MAP_FAILED)
        return 1;
    victim_report("code", (uint64_t)(uintptr_t)call);
    victim_ready();
    for (long order; (order = victim_order()) > 0;)
        for (long i = 0; i < order; i++)
            call();
    return 0;
}
