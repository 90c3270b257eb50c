/*
 * The flow-matching schedule (model-spec section 7.1).
 */
#include "runner/sampler.h"

enum { TRAIN_STEPS = 1000 };

void
sampler_sigmas(int steps, float shift, float *sigmas)
{
	for (int i = 0; i < steps; i++) {
		double s = 1.0 - (double)i / steps;
		sigmas[i] = (float)(shift * s / (1.0 + (shift - 1.0) * s));
	}
	sigmas[steps] = 0.0f;
}

float
sampler_time(float sigma)
{
	float timestep = sigma * (float)TRAIN_STEPS;

	return ((float)TRAIN_STEPS - timestep) / (float)TRAIN_STEPS;
}
