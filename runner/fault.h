/*
 * A device's first failure as an error of ours.
 */
#ifndef RUNNER_FAULT_H
#define RUNNER_FAULT_H

#include "ipc/err.h"
#include "kernels/ops.h"

/* Waits for the device. 0, or -ERR_OUT_OF_MEMORY, -ERR_POISONED or -ERR_INTERNAL with the device's own
 * sentence. */
int fault_check(struct device *d, struct err *e);

#endif
