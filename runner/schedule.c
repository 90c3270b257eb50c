/*
 * What depends on the step count alone: sigmas and modulation.
 */
#include "runner/schedule.h"

#include <assert.h>
#include <stdlib.h>

#include "runner/fault.h"
#include "runner/model_inside.h"
#include "runner/sampler.h"

void
schedule_clear(struct schedule *s)
{
	free(s->modulation);
	*s = (struct schedule){0};
}

static struct schedule *
find(struct model *m, int steps)
{
	for (int i = 0; i < SCHEDULES; i++) {
		if (m->schedules[i].steps == steps)
			return &m->schedules[i];
	}
	return NULL;
}

/* An empty one: of those that nobody holds, the one that was used longest ago. */
static struct schedule *
recycle(struct model *m)
{
	struct schedule *oldest = NULL;

	for (int i = 0; i < SCHEDULES; i++) {
		struct schedule *s = &m->schedules[i];
		if (s->users == 0 && (oldest == NULL || s->last_use < oldest->last_use))
			oldest = s;
	}
	assert(oldest != NULL);
	schedule_clear(oldest);
	return oldest;
}

static int
fill(struct schedule *s, struct model *m, int steps, struct err *e)
{
	int64_t count = dit_modulation_count(m->dit);
	int status;

	s->modulation = malloc((size_t)(steps * count) * sizeof(float));
	if (s->modulation == NULL)
		return err_set(e, ERR_SYSTEM, "no memory for the tables of %d steps", steps);
	sampler_sigmas(steps, m->config.shift, s->sigmas);
	for (int i = 0; i < steps; i++) {
		arena_reset(&m->work);
		dit_modulation(
		    m->dit, &m->work, sampler_time(s->sigmas[i]), s->modulation + i * count, m->trace);
	}
	status = fault_check(m->device, e);
	if (status == 0)
		s->steps = steps;
	else
		schedule_clear(s);
	return status;
}

int
schedule_take(struct schedule **out, struct model *m, int steps, struct err *e)
{
	struct schedule *s = find(m, steps);

	if (s == NULL) {
		s = recycle(m);
		int status = fill(s, m, steps, e);
		if (status != 0)
			return status;
	}
	s->users++;
	s->last_use = ++m->schedule_uses;
	*out = s;
	return 0;
}

void
schedule_drop(struct schedule **s)
{
	if (*s == NULL)
		return;
	(*s)->users--;
	if ((*s)->users == 0 && (*s)->steps > KEPT_STEPS)
		schedule_clear(*s);
	*s = NULL;
}

const float *
schedule_modulation(const struct schedule *s, const struct model *m, int step)
{
	return s->modulation + step * dit_modulation_count(m->dit);
}
