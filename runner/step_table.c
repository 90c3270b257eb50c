/*
 * What a step needs besides its picture, in tables on the device.
 */
#include "runner/step_table.h"

#include "runner/model_inside.h"
#include "runner/sampler.h"

static void
lay_out(const struct model *m, struct step_table *t, struct arena *a)
{
	t->modulation = arena_matrix(a, device_act_type(m->device), MAX_STEPS, dit_modulation_count(m->dit));
	t->distance = arena_matrix(a, DT_F32, MAX_STEPS, 1);
}

size_t
step_table_bytes(const struct model *m)
{
	struct step_table t;
	struct arena plan;

	arena_plan(&plan);
	lay_out(m, &t, &plan);
	return plan.peak;
}

void
step_table_use(struct model *m, void *memory)
{
	struct arena a;

	m->steps = (struct step_table){.memory = memory};
	arena_use(&a, memory, step_table_bytes(m));
	lay_out(m, &m->steps, &a);
}

/* The row that was made for it, or the one to be made over. */
static struct step_row *
find(struct step_table *t, float time, float distance)
{
	struct step_row *oldest = &t->rows[0];

	for (int i = 0; i < MAX_STEPS; i++) {
		struct step_row *row = &t->rows[i];
		if (row->last_use > 0 && row->time == time && row->distance == distance)
			return row;
		oldest = row->last_use < oldest->last_use ? row : oldest;
	}
	oldest->last_use = 0;
	return oldest;
}

/* One time after the other: a product over all of a schedule's would be faster, 4 ms in the 6B model, but a
 * row's bits could then depend on how many there are; and it is done once for a step count. */
static void
make(struct model *m, struct step_row *row, float time, float distance)
{
	struct step_table *t = &m->steps;
	struct tensor modulation = tensor_rows(&t->modulation, row - t->rows, 1),
		      distance_row = tensor_rows(&t->distance, row - t->rows, 1);

	arena_reset(&m->work);
	dit_modulation(m->dit, &m->work, time, &modulation, m->trace);
	m->ops->copy_in(m->device, &distance_row, &distance, DT_F32);
	row->time = time;
	row->distance = distance;
}

int32_t
step_table_row(struct model *m, const float sigma[2])
{
	struct step_table *t = &m->steps;
	float time = sampler_time(sigma[0]), distance = sigma[1] - sigma[0];
	struct step_row *row = find(t, time, distance);

	if (row->last_use == 0)
		make(m, row, time, distance);
	row->last_use = ++t->uses;
	return (int32_t)(row - t->rows);
}
