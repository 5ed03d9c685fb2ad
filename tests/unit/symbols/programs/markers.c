/* Notes as sys/sdt.h writes them: two places of one marker, one marker with a semaphore. */
__attribute__((section(".probes"))) volatile unsigned short demo_gated_semaphore;

#define MARK(provider, name, semaphore, arguments)                                                   \
    __asm__ volatile("990: nop\n"                                                                    \
                     ".pushsection .note.stapsdt, \"?\", \"note\"\n"                                  \
                     ".balign 4\n"                                                                   \
                     ".4byte 992f-991f, 994f-993f, 3\n"                                              \
                     "991: .asciz \"stapsdt\"\n"                                                     \
                     "992: .balign 4\n"                                                              \
                     "993: .8byte 990b, _.stapsdt.base, " semaphore "\n"                             \
                     ".asciz \"" provider "\"\n"                                                     \
                     ".asciz \"" name "\"\n"                                                         \
                     ".asciz \"" arguments "\"\n"                                                    \
                     "994: .balign 4\n"                                                              \
                     ".popsection\n")

__asm__(".section .stapsdt.base, \"aG\", \"progbits\", .stapsdt.base, comdat\n"
        ".weak _.stapsdt.base\n"
        ".hidden _.stapsdt.base\n"
        "_.stapsdt.base: .space 1\n"
        ".size _.stapsdt.base, 1\n"
        ".previous\n");

int main(int count, char **words)
{
    MARK("demo", "start", "0", "-4@%edi 8@%rsi");
    if (words[0][0] == 'x')
        MARK("demo", "start", "0", "-4@$1");
    MARK("demo", "gated", "demo_gated_semaphore", "");
    return count == 0;
}
