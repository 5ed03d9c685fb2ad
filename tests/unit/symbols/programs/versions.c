/* One function in two versions, as libraries have that changed incompatibly. */
int measure_old(void) { return 1; }
int measure_new(void) { return 2; }
__asm__(".symver measure_old, measure@V_1");
__asm__(".symver measure_new, measure@@V_2");
