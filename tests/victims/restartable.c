/* A restartable sequence that the file lists, as librseq does. Each order is a number of passes. */
#include "victim.h"

static uint64_t passes;

PROBED void pass_sequence(void)
{
    __asm__ volatile(".pushsection __rseq_cs, \"aw\"\n"
                     ".balign 32\n"
                     ".long 0, 0\n"
                     ".quad 1f, 2f - 1f, 4f\n"
                     ".popsection\n"
                     ".globl sequence_start, sequence_end\n"
                     "nop\n" /* so that the function begins before it */
                     "1: sequence_start: nop\n"
                     "incq %0\n"
                     "2: sequence_end: jmp 5f\n"
                     ".long 0x53053053\n" /* the signature that the kernel compares */
                     "4: jmp 1b\n"
                     "5:\n"
                     : "+m"(passes)::"cc");
}

int main(void)
{
    victim_ready();
    for (long order; (order = victim_order()) > 0;)
        for (long i = 0; i < order; i++)
            pass_sequence();
    victim_report("passes", passes);
    return 0;
}
