/* Two files of one program have a static function of the same name, `twin`. */
#include "victim.h"

int call_other_twin(int x);

static PROBED int twin(int x)
{
    return x * 3;
}

int main(void)
{
    int value = 0;
    victim_ready();
    for (long order; (order = victim_order()) > 0;)
        value += twin((int)order) + call_other_twin((int)order);
    victim_report("value", (uint64_t)value);
    return 0;
}
