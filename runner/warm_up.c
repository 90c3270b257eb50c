/*
 * What a device does better before READY than in somebody's job.
 *
 * Products are tried at numbers of rows, because their other sizes are the model's. All that an admitted
 * picture of 1024x1024 and its prompt can have are 36 numbers of 128 rows, so those near the model's own
 * size, where most work is, are tried each, and others in steps of a fifth; one in between takes the way of
 * the nearest. That is 50000 rows of 0.35 GFLOP in all, 25 ms for one way of each on an H100, times some 40
 * ways and repetitions: seconds at the first start, and a pass of 25 ms when all are known. 2048x2048 is
 * twice that. What else there is, decoding and the rest, is tried by drawing a picture of the usual size.
 */
#include "runner/warm_up.h"

#include <stdlib.h>

#include "runner/fault.h"
#include "runner/model_inside.h"

enum {
	USUAL_STEPS = 8, /* of most pictures: their rows of the step tables are made */
	ROWS = 128,	 /* numbers of rows up to the next one of these cost the same */
	FEW_ROWS = 32,	 /* and these, below the first of those */
};

struct warming {
	struct model *m;
	void (*heed)(void *arg);
	void *arg;
	struct err *e;
};

/* A part has been put to the device; waits for it. */
static int
end_part(struct warming *w)
{
	int status = fault_check(w->m->device, w->e);

	if (status == 0)
		w->heed(w->arg);
	return status;
}

/* ---- products */

/* Of prompts, and of what the transformer makes of them. */
static int
try_text(struct warming *w)
{
	int status = 0;

	for (int64_t rows = FEW_ROWS; rows <= MAX_PROMPT_TOKENS && status == 0;
	     rows += rows < ROWS ? FEW_ROWS : ROWS) {
		text_encoder_products(w->m->text_encoder, &w->m->work, rows);
		dit_products(w->m->dit, &w->m->work, rows);
		status = end_part(w);
	}
	return status;
}

static int64_t
image_rows(int64_t pixels, int granule)
{
	return dit_padded(pixels / ((int64_t)granule * granule));
}

/* Up to `last` rows, more each time by a `share`th of what there was, but by ROWS at least. */
static int
try_rows(struct warming *w, int64_t first, int64_t last, int64_t share)
{
	int64_t more;
	int status = 0;

	for (int64_t rows = first; rows <= last && status == 0; rows += more > ROWS ? more : ROWS) {
		more = rows / share / ROWS * ROWS;
		dit_products(w->m->dit, &w->m->work, rows);
		status = end_part(w);
	}
	return status;
}

/* Of the size that the model is at home with, or the largest square below it that there is memory for. */
static int
usual_side(const struct model_limits *l)
{
	int side = l->default_side;

	while ((int64_t)side * side > l->max_pixels)
		side -= l->granule;
	return side;
}

static int
try_products(struct warming *w)
{
	const struct model_limits *l = &w->m->limits;
	int64_t side = usual_side(l), usual = image_rows(side * side, l->granule),
		last = image_rows(l->max_pixels, l->granule) + MAX_PROMPT_TOKENS;
	int status = try_text(w);

	if (status == 0)
		status = try_rows(w, usual, usual + MAX_PROMPT_TOKENS, INT64_MAX);
	if (status == 0)
		status = try_rows(w, ROWS, last, 5);
	return status;
}

/* ---- pictures */

static int
begin_usual(struct warming *w, struct generation **g)
{
	int side = usual_side(&w->m->limits);
	struct generation_request request = {
	    .prompt = "", .width = side, .height = side, .steps = USUAL_STEPS, .fresh = true};
	int status = generation_start(g, w->m, &request, w->e);

	if (status == 0)
		status = generation_step(*g, w->e);
	return status;
}

/* A step and the decoding of a picture that nobody sees. */
static int
try_picture(struct warming *w)
{
	int side = usual_side(&w->m->limits);
	uint8_t *rgb = malloc((size_t)side * (size_t)side * 3);
	struct generation *g = NULL;
	int status = rgb != NULL ? begin_usual(w, &g) : err_set(w->e, ERR_SYSTEM, "out of memory");

	if (status == 0)
		status = generation_decode(g, rgb, w->e);
	generation_free(&g);
	free(rgb);
	if (status == 0)
		w->heed(w->arg);
	return status;
}

/* The second step of this size: it is recorded. */
static int
record_step(struct warming *w)
{
	struct generation *g = NULL;
	int status = begin_usual(w, &g);

	generation_free(&g);
	if (status == 0)
		w->heed(w->arg);
	return status;
}

int
warm_up(struct model *m, void (*heed)(void *arg), void *arg, struct err *e)
{
	struct warming w = {m, heed, arg, e};
	bool pays = device_warms_up(m->device);
	int status = device_searches(m->device) ? try_products(&w) : 0;

	if (pays && status == 0)
		status = try_picture(&w);
	device_settle(m->device);
	step_table_use(m, m->steps.memory); /* its rows may be garbage */
	if (pays && status == 0)
		status = record_step(&w);
	return status;
}
