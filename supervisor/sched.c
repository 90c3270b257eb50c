/*
 * Which waiting job goes to which runner.
 */
#include "supervisor/sched.h"

void
sched_run(struct queue *q, struct runner *const *runners, int runner_count)
{
	for (int i = 0; i < runner_count; i++) {
		struct job *job = queue_first(q);

		if (job == NULL)
			return;
		if (runner_state(runners[i]) != RUNNER_IDLE)
			continue;
		queue_remove(q, job);
		runner_dispatch(runners[i], job);
	}
}
