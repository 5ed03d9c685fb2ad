/* The search for an instruction's length, one run at a time.
 *
 * With N bytes before the guard page, a fetch fault at the guard page says that the instruction has more
 * than N bytes; anything else that it has at most N. The answer is monotone in N, so a claim is proved
 * by two runs (claim, claim - 1), a wrong one is put right by bisection.
 */
#ifndef ORACLE_SEARCH_H
#define ORACLE_SEARCH_H

#include <stdbool.h>

#include "layout.h"

struct search {
    const struct judge_in *in;
    struct judge_out *out;
    uint8_t too_few; /* largest N known to be too few */
    uint8_t enough;  /* smallest N known to be enough; MAX_LENGTH + 1 while none is known */
};

/* What one run with N bytes showed. */
struct sight {
    bool fetch_fault; /* at the guard page, ip unmoved */
    uint8_t outcome;
    int64_t moved;
};

static inline void search_begin(struct search *search, const struct judge_in *in, struct judge_out *out)
{
    *search = (struct search){in, out, 0, MAX_LENGTH + 1};
    *out = (struct judge_out){0};
}

/* How many bytes to give next; 0: the search is over and *out is complete. */
static inline uint8_t search_next(struct search *search)
{
    const struct judge_in *in = search->in;
    if (in->hint & HINT_LOWER_BOUND) {
        if (search->too_few == 0 && search->enough > MAX_LENGTH && in->claim > 1)
            return in->claim - 1;
        search->out->length = search->enough > MAX_LENGTH ? in->claim : search->enough;
        search->out->outcome = search->enough > MAX_LENGTH ? OUT_NOT_RUN : search->out->outcome;
        return 0;
    }
    if (search->enough > MAX_LENGTH) {
        if (search->too_few == MAX_LENGTH) {
            search->out->outcome = OUT_TOO_FEW;
            return 0;
        }
        return in->claim > search->too_few ? in->claim : MAX_LENGTH;
    }
    if (search->out->outcome == OUT_UD && !(in->hint & HINT_EXACT))
        return 0; /* bytes fetched before #UD are no length */
    if (search->too_few + 1 == search->enough) {
        search->out->length = search->enough;
        return 0;
    }
    if (search->enough == in->claim)
        return search->enough - 1;
    return (search->too_few + search->enough) / 2;
}

/* Whether a run with `given` bytes needs the trap flag. A claim that control goes on to the next instruction
 * needs none: the guard page stops it there, and a #PF costs a fifth of a #DB under a hypervisor that
 * intercepts the latter. The second run still proves that one instruction, not two, filled the bytes. */
static inline bool search_steps(const struct judge_in *in, uint8_t given)
{
    return !(in->hint & HINT_NEXT) || given > in->claim || given + 1 < in->claim;
}

static inline void search_see(struct search *search, uint8_t given, struct sight sight)
{
    search->out->runs++;
    if (sight.fetch_fault) {
        search->too_few = given;
        return;
    }
    search->enough = given;
    search->out->outcome = sight.outcome;
    search->out->moved = (int32_t)sight.moved;
}

#endif
