/* An address in code that only the loader knows. */
int counter;
__asm__(".text\n.quad counter\n");
