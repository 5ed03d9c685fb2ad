/* Another debugger: seizes the process whose number is its order, says "seized 1", and holds it until the end. */
#include <sys/ptrace.h>

#include "victim.h"

int main(void)
{
    victim_ready();
    for (long order; (order = victim_order()) > 0;)
        victim_report("seized", ptrace(PTRACE_SEIZE, (pid_t)order, 0, 0) == 0);
    return 0;
}
