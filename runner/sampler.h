/*
 * The flow-matching schedule and the tables that depend on it alone (model-spec sections 7.1 and 6.8).
 */
#ifndef RUNNER_SAMPLER_H
#define RUNNER_SAMPLER_H

/* sigmas[0 .. steps]: 1 - i/steps shifted, float32, then 0. */
void sampler_sigmas(int steps, float shift, float *sigmas);

/* The time that the network is given at a sigma: (1000 - 1000 sigma) / 1000, in float32 as the pipelines
 * compute it. */
float sampler_time(float sigma);

#endif
