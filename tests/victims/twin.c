/* The other file with a static function `twin`: see ambiguous.c. */
#include "victim.h"

static __attribute__((noinline, noclone, used)) int twin(int x)
{
    return x * 5;
}

int call_other_twin(int x)
{
    return twin(x) + 1;
}
