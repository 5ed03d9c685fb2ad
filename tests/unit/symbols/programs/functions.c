/* Names of every kind: exported, local, twice the same, aliased, chosen at load time, without a type or size. */
int counter = 1;

__attribute__((noinline)) int twice(int x) { return 2 * x + counter; }
int doubled(int x) __attribute__((alias("twice")));
int weak_twice(int x) __attribute__((weak, alias("twice")));

__attribute__((noinline)) static int local_only(int x) { return x + counter; }
__attribute__((noinline)) static int duplicate(int x) { return x * counter; }

static int chosen_now(int x) { return x; }
static int (*choose(void))(int) { return chosen_now; }
int chosen(int x) __attribute__((ifunc("choose")));

__asm__(
    ".text\n"
    ".globl sizeless\n"
    ".type sizeless, @function\n"
    "sizeless:\n"
    "    .cfi_startproc\n"
    "    nop\n"
    "    nop\n"
    "    ret\n"
    "    .cfi_endproc\n"
    ".globl framed_label\n"
    "framing:\n"
    "    .cfi_startproc\n"
    "    nop\n"
    "framed_label:\n"
    "    ret\n"
    "    .cfi_endproc\n"
    ".globl bare_label\n"
    "bare_label:\n"
    "    .quad 0\n"
    ".globl outer, inner\n"
    ".type outer, @function\n"
    ".type inner, @function\n"
    "outer:\n"
    "    nop\n"
    "inner:\n"
    "    nop\n"
    ".size inner, . - inner\n"
    "    ret\n"
    ".size outer, . - outer\n");

extern int in_other_file(int);

int main(void) { return in_other_file(local_only(duplicate(twice(chosen(counter))))); }
