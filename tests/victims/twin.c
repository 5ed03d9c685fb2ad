/* The other file with a static function `twin`: see ambiguous.c. */
#include "victim.h"

static PROBED int twin(int x)
{
    return x * 5;
}

int call_other_twin(int x)
{
    return twin(x) + 1;
}
