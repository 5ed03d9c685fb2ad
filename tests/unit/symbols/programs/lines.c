/* Tests find the lines by the words in their comments. May be linked with a file that has a main. */
static inline __attribute__((always_inline)) int square(int x)
{
    return x * x; /* inlined */
}

int sum(int n)
{
    int total = 0;
    for (int i = 0; i < n; i++) /* head of the loop */
        total += square(i); /* loop body */
    total += square(n + 7); /* after the loop */
    /* no code */
    return total; /* two ways, if optimised: with and without the loop */
}

__attribute__((weak)) int main(void)
{
    return sum(3) == 0;
}
