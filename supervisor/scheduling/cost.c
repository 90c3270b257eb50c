/*
 * Recursive least squares with forgetting over relative errors.
 */
#include "supervisor/scheduling/cost.h"

#include <math.h>
#include <string.h>

#define FORGETTING 0.98	 /* the weight of a sample halves in 34 */
#define MIN_S 1e-3	 /* of a prediction */
#define FIRST_P 100.0	 /* how little the first terms are believed */
#define MAX_P 1e4	 /* what no sample tells of is not forgotten without end */
#define MAX_RESIDUAL 2.0 /* relative: one job does not spoil all */
#define FIRST_ERROR 0.25 /* half of what was predicted, squared */
#define ERROR_MEMORY 0.95

static void
fill_terms(const struct cost_work *work, double x[COST_TERMS])
{
	x[0] = 1;
	x[1] = work->count * work->steps * work->megapixels;
	x[2] = work->count * work->megapixels;
}

static double
dot(const double a[COST_TERMS], const double b[COST_TERMS])
{
	double sum = 0;

	for (int i = 0; i < COST_TERMS; i++)
		sum += a[i] * b[i];
	return sum;
}

static double
predict(const struct cost *c, const double x[COST_TERMS])
{
	double s = c->samples < COST_ENOUGH ? c->scale * dot(c->constants, x) : dot(c->terms, x);

	return fmax(MIN_S, s);
}

void
cost_set_constants(struct cost *c, double base_s, double step_s, double picture_s)
{
	const double constants[COST_TERMS] = {base_s, step_s, picture_s};

	memcpy(c->constants, constants, sizeof(constants));
	if (c->samples == 0)
		memcpy(c->terms, constants, sizeof(constants));
}

void
cost_init(struct cost *c, double base_s, double step_s, double picture_s)
{
	memset(c, 0, sizeof(*c));
	cost_set_constants(c, base_s, step_s, picture_s);
	c->error = FIRST_ERROR;
	c->scale = 1;
	for (int i = 0; i < COST_TERMS; i++)
		c->p[i][i] = FIRST_P;
}

/* x'Px, and Px. */
static double
spread(const struct cost *c, const double x[COST_TERMS], double px[COST_TERMS])
{
	for (int i = 0; i < COST_TERMS; i++)
		px[i] = dot(c->p[i], x);
	return dot(px, x);
}

/* Forgets only what samples speak of, so that P stays bounded when all jobs are alike. */
static void
update_p(struct cost *c, const double px[COST_TERMS], double gain)
{
	double trace = 0, forgetting;

	for (int i = 0; i < COST_TERMS; i++)
		trace += c->p[i][i];
	forgetting = trace < MAX_P ? FORGETTING : 1;
	for (int i = 0; i < COST_TERMS; i++) {
		for (int k = 0; k < COST_TERMS; k++)
			c->p[i][k] = (c->p[i][k] - px[i] * px[k] * gain) / forgetting;
	}
}

void
cost_learn(struct cost *c, const struct cost_work *work, double seconds)
{
	double x[COST_TERMS], px[COST_TERMS], predicted, residual, learned, gain;

	if (!(seconds > 0) || !isfinite(seconds))
		return;
	fill_terms(work, x);
	predicted = predict(c, x);
	residual = fmin(seconds / predicted - 1, MAX_RESIDUAL);
	if (c->samples > 0)
		c->error = ERROR_MEMORY * c->error + (1 - ERROR_MEMORY) * residual * residual;
	c->scale += (seconds / fmax(MIN_S, dot(c->constants, x)) - c->scale) / (c->samples + 1);
	for (int i = 0; i < COST_TERMS; i++)
		x[i] /= predicted; /* so that errors are relative */
	learned = dot(c->terms, x);
	gain = 1 / (FORGETTING + spread(c, x, px));
	/* Against outliers once it knows; before, everything is one. */
	residual = seconds / predicted - learned;
	if (c->samples >= COST_ENOUGH)
		residual = fmin(residual, MAX_RESIDUAL);
	for (int i = 0; i < COST_TERMS; i++)
		c->terms[i] += px[i] * gain * residual;
	update_p(c, px, gain);
	c->samples++;
}

double
cost_predict(const struct cost *c, const struct cost_work *work, double *variance)
{
	double x[COST_TERMS], px[COST_TERMS], s, unsure;

	fill_terms(work, x);
	s = predict(c, x);
	for (int i = 0; i < COST_TERMS; i++)
		x[i] /= s;
	/* Its own scatter, and how little is known of jobs like it; before it knows, half of it is a guess.
	 */
	unsure = c->samples < COST_ENOUGH ? FIRST_ERROR : c->error * (1 + fmin(1, spread(c, x, px)));
	*variance = s * s * unsure;
	return s;
}

/* A normal variable cut off at what has passed: its mean and variance beyond that (inverse Mills ratio h). */
double
cost_left(double predicted_s, double variance, double elapsed_s, double *left_variance)
{
	double deviation = sqrt(variance), at, tail, h, left_s;

	if (deviation <= 0) {
		*left_variance = 0;
		return fmax(0, predicted_s - elapsed_s);
	}
	at = fmin(6, (elapsed_s - predicted_s) / deviation); /* beyond, the tail is no number any more */
	tail = 0.5 * erfc(at / sqrt(2));
	h = exp(-at * at / 2) / sqrt(2 * M_PI) / tail;
	left_s = deviation * (h - at);
	*left_variance = variance * fmax(0, 1 + at * h - h * h);
	return left_s;
}

/* ---- over a restart */

json_t *
cost_dump(const struct cost *c)
{
	json_t *terms = json_array(), *p = json_array();

	for (int i = 0; i < COST_TERMS; i++) {
		json_array_append_new(terms, json_real(c->terms[i]));
		for (int k = 0; k < COST_TERMS; k++)
			json_array_append_new(p, json_real(c->p[i][k]));
	}
	return json_pack("{s:o, s:o, s:f, s:f, s:i}", "terms", terms, "p", p, "error", c->error, "scale",
	    c->scale, "samples", c->samples);
}

/* `count` finite numbers. */
static bool
take_numbers(const json_t *list, double *out, size_t count)
{
	if (json_array_size(list) != count)
		return false;
	for (size_t i = 0; i < count; i++) {
		const json_t *value = json_array_get(list, i);
		if (!json_is_number(value) || !isfinite(json_number_value(value)))
			return false;
		out[i] = json_number_value(value);
	}
	return true;
}

bool
cost_restore(struct cost *c, const json_t *dump)
{
	const json_t *samples = json_object_get(dump, "samples"), *error = json_object_get(dump, "error"),
		     *scale = json_object_get(dump, "scale");
	struct cost fresh = *c;

	if (!take_numbers(json_object_get(dump, "terms"), fresh.terms, COST_TERMS) ||
	    !take_numbers(json_object_get(dump, "p"), &fresh.p[0][0], (size_t)COST_TERMS * COST_TERMS) ||
	    !json_is_integer(samples) || json_integer_value(samples) < 0 || !json_is_number(error) ||
	    !json_is_number(scale) || json_number_value(error) < 0 || json_number_value(scale) <= 0)
		return false;
	fresh.samples = json_integer_value(samples) < 1000000 ? (int)json_integer_value(samples) : 1000000;
	fresh.error = json_number_value(error);
	fresh.scale = json_number_value(scale);
	*c = fresh;
	return true;
}
