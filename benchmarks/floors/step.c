/* The bare single-step: PTRACE_SINGLESTEP and waitpid, through a loop of plain instructions. */
#include "floor.h"

static void target(void)
{
    __asm__ volatile("int3\n"
                     "1: nop\n"
                     "   nop\n"
                     "   nop\n"
                     "   jmp 1b");
}

int main(int argc, char **argv)
{
    struct floor floor = floor_start(argc, argv, target);
    floor_measure(&floor, PTRACE_SINGLESTEP);
    floor_end(&floor);
    return 0;
}
