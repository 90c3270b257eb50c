/*
 * What a device does better before READY than in somebody's job: trying ways of making the products that any
 * picture or prompt can ask for, loading what libraries load late, recording a step of the usual size.
 */
#ifndef RUNNER_WARM_UP_H
#define RUNNER_WARM_UP_H

#include "runner/generation.h"

/* Before the model's first picture; the device is settled afterwards (kernels/ops.h). `heed` is called
 * between parts, which take milliseconds where all is known, and seconds where ways are tried. 0, or the
 * error of generation.h that it ended with. */
int warm_up(struct model *m, void (*heed)(void *arg), void *arg, struct err *e);

#endif
