/* A restartable sequence, listed as the kernel's and librseq's headers do it. */
int main(void)
{
    __asm__ volatile(".pushsection __rseq_cs, \"aw\"\n"
                     ".balign 32\n"
                     ".long 0, 0\n"
                     ".quad sequence_start, sequence_end - sequence_start, sequence_abort\n"
                     ".popsection\n"
                     ".globl sequence_start, sequence_end, sequence_abort\n"
                     "sequence_start: nop\n"
                     "nop\n"
                     "sequence_end: nop\n"
                     "sequence_abort: nop\n");
    return 0;
}
