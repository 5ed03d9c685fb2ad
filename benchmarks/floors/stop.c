/* The bare int3 stop: PTRACE_CONT and waitpid, nothing else. No breakpoint can cost less. */
#include "floor.h"

static void target(void)
{
    for (;;)
        __asm__ volatile("int3");
}

int main(int argc, char **argv)
{
    struct floor floor = floor_start(argc, argv, target);
    floor_measure(&floor, PTRACE_CONT);
    floor_end(&floor);
    return 0;
}
