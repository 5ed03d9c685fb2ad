/* The slow way: a traced child, set up and single-stepped with ptrace. Nothing that the instruction does to
 * segments, stack or signals matters to us, so it takes what the sandbox cannot survive, and checks the sandbox. */
#ifndef ORACLE_TRACER_H
#define ORACLE_TRACER_H

#include "layout.h"

/* Judges one record. Starts a child on first use and whenever the last one died. */
void tracer_judge(const struct judge_in *in, struct judge_out *out);

void tracer_stop(void);

#endif
