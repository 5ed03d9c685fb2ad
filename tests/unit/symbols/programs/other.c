/* A second file with a local function of the same name. */
extern int counter;
__attribute__((noinline)) static int duplicate(int x) { return x - counter; }
int in_other_file(int x) { return duplicate(x) + 1; }
