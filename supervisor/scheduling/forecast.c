/*
 * Promises. A plan's time with its variance is taken as log-normal, durations being positive and skewed; its
 * quantiles are then moved until they hold: each broken promise moves one out, each kept one a little in, in
 * the ratio that makes as many be kept as it says, whatever comes meanwhile.
 */
#include "supervisor/scheduling/forecast.h"

#include <math.h>
#include <string.h>

#define PACE 0.04      /* of one lesson, in logarithms */
#define MAX_SHIFT 3.0  /* twentyfold */
#define AT_ONCE_S 1e-3 /* a start before that is no waiting */
#define MAX_WAIT_S 3600.0
#define MAX_STRETCH 4.0 /* of one interval: the end of a pause, or a window's opening, is no pace */

static const struct {
	double share; /* of jobs that are done before it */
	double deviations;
} levels[FORECAST_LEVELS] = {{0.05, -1.645}, {0.5, 0}, {0.95, 1.645}};

void
forecast_init(struct forecast *f)
{
	memset(f, 0, sizeof(*f));
}

static double
quantile(double mean, double variance, double deviations, double shift)
{
	double spread;

	if (mean <= 0)
		return 0;
	spread = log1p(variance / (mean * mean));
	return mean * exp(deviations * sqrt(spread) - spread / 2 + shift);
}

struct forecast_promise
forecast_make(const struct forecast *f, int class, const struct plan_spot *spot)
{
	struct forecast_promise p = {.waits = spot->start_s > AT_ONCE_S};
	const double *shift = f->shift[class][p.waits];

	for (int i = 0; i < FORECAST_LEVELS; i++) {
		double deviations = levels[i].deviations;
		p.done_s[i] = quantile(spot->done_s, spot->done_variance, deviations, shift[i]);
		p.start_s[i] = quantile(spot->start_s, spot->start_variance, deviations, shift[i]);
		if (i > 0) { /* learned apart, they could cross */
			p.done_s[i] = fmax(p.done_s[i], p.done_s[i - 1]);
			p.start_s[i] = fmax(p.start_s[i], p.start_s[i - 1]);
		}
	}
	return p;
}

void
forecast_learn(struct forecast *f, int class, const struct forecast_promise *promise, double done_s)
{
	double *shift = f->shift[class][promise->waits];

	for (int i = 0; i < FORECAST_LEVELS; i++) {
		bool before = done_s <= promise->done_s[i];
		shift[i] += PACE * (levels[i].share - before);
		shift[i] = fmin(MAX_SHIFT, fmax(-MAX_SHIFT, shift[i]));
	}
}

enum forecast_verdict
forecast_judge(const struct forecast_promise *p, double deadline_s, double queue_timeout_s)
{
	if (deadline_s > 0 && p->done_s[FORECAST_EARLY] > deadline_s)
		return FORECAST_LATE;
	return p->start_s[FORECAST_EARLY] > queue_timeout_s ? FORECAST_EXPIRES : FORECAST_GOOD;
}

/* ---- over a restart */

json_t *
forecast_dump(const struct forecast *f)
{
	json_t *list = json_array();

	for (int k = 0; k < FAIR_CLASSES; k++) {
		for (int i = 0; i < 2 * FORECAST_LEVELS; i++)
			json_array_append_new(
			    list, json_real(f->shift[k][i / FORECAST_LEVELS][i % FORECAST_LEVELS]));
	}
	return list;
}

bool
forecast_restore(struct forecast *f, const json_t *dump)
{
	struct forecast fresh;
	double *shift = &fresh.shift[0][0][0];
	size_t i;
	json_t *value;

	if (json_array_size(dump) != sizeof(fresh.shift) / sizeof(double))
		return false;
	json_array_foreach(dump, i, value)
	{
		if (!json_is_number(value) || !(fabs(json_number_value(value)) <= MAX_SHIFT))
			return false;
		shift[i] = json_number_value(value);
	}
	*f = fresh;
	return true;
}

/* ---- how fast places become free */

void
drain_rate_note(struct drain_rate *d, double now_s, int left)
{
	double interval_s = now_s - d->last_s;

	if (d->interval_s > 0)
		interval_s = fmin(interval_s, MAX_STRETCH * d->interval_s);
	if (d->last_s > 0 && d->backlogged)
		d->interval_s = d->interval_s > 0 ? 0.8 * d->interval_s + 0.2 * interval_s : interval_s;
	d->last_s = now_s;
	d->backlogged = left > 0;
}

double
drain_rate_wait(const struct drain_rate *d, int jobs)
{
	return fmin(MAX_WAIT_S, fmax(1, ceil(d->interval_s * jobs)));
}
