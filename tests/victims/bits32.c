/* A 32-bit program without any library (so that no 32-bit libc is needed): says "ready", waits for the end of
 * its input, leaves. Compiled with -m32 -nostdlib -static. */

static int call(int number, int a, const void *b, int c)
{
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

__attribute__((noinline, used)) int work(int x)
{
    return x + 1;
}

void _start(void)
{
    char byte;
    call(4, 1, "ready\n", 6);
    while (call(3, 0, &byte, 1) > 0)
        byte = (char)work(byte);
    call(1, 0, 0, 0);
    __builtin_unreachable();
}
