/*
 * torch.randn on a CPU generator, float32 (model-spec section 7.3): one seed gives one picture everywhere.
 */
#ifndef RUNNER_NOISE_H
#define RUNNER_NOISE_H

#include <stddef.h>
#include <stdint.h>

/* Fills x with `count` standard normals, those of a fresh torch.Generator("cpu").manual_seed(seed). */
void noise_fill(float *x, size_t count, uint64_t seed);

#endif
