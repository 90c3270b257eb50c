/*
 * A look at intermediate results, for the tests that compare stages with a reference. NULL in production.
 */
#ifndef RUNNER_TRACE_H
#define RUNNER_TRACE_H

#include "kernels/ops.h"

struct trace {
	void (*see)(void *arg, const char *stage, const struct tensor *t); /* t lives for the call only */
	void *arg;
};

static inline void
trace_see(const struct trace *trace, const char *stage, const struct tensor *t)
{
	if (trace != NULL)
		trace->see(trace->arg, stage, t);
}

#endif
