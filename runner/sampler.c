/*
 * The flow-matching schedule (model-spec section 7.1).
 *
 * Every rounding is that of the public pipeline, whose numbers are float32 from the first to the last: its
 * even spacing is torch.linspace, which rounds once per value (a fused multiply-add) and counts the second
 * half from the end. So the sigmas are equal in every bit, and a seed's picture does not depend on who drew
 * it.
 */
#include "runner/sampler.h"

#include <math.h>

enum { TRAIN_STEPS = 1000 };

/* Value i of torch.linspace(1, 1 / steps, steps). */
static float
spaced(int i, int steps)
{
	float last = (float)(1.0 / steps), interval;

	if (steps == 1)
		return 1.0f;
	interval = (last - 1.0f) / (float)(steps - 1);
	return i < steps / 2 ? fmaf(interval, (float)i, 1.0f) : fmaf(-interval, (float)(steps - i - 1), last);
}

/* shift s / (1 + (shift - 1) s), rounded after each operation: the products are exact in double first, so no
 * compiler can fuse them. */
static float
shifted(float s, float shift)
{
	float above = (float)((double)shift * s), slope = (float)((double)(shift - 1.0f) * s);

	return above / (1.0f + slope);
}

void
sampler_sigmas(int steps, float shift, float *sigmas)
{
	for (int i = 0; i < steps; i++)
		sigmas[i] = shifted(spaced(i, steps), shift);
	sigmas[steps] = 0.0f;
}

float
sampler_time(float sigma)
{
	float timestep = sigma * (float)TRAIN_STEPS;

	return ((float)TRAIN_STEPS - timestep) / (float)TRAIN_STEPS;
}
