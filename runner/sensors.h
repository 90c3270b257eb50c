/*
 * A thread that looks at the device's sensors once a second and notes what they say on the status page, where
 * zitd has it from for its metrics. Reading them may wait for the driver, so the work does not do it.
 */
#ifndef RUNNER_SENSORS_H
#define RUNNER_SENSORS_H

#include "ipc/shm.h"
#include "kernels/ops.h"

struct sensors_thread;

/* Device and page stay the caller's. NULL: there is no thread to be had, which is no error. */
struct sensors_thread *sensors_start(struct device *device, struct status_page *page);
void sensors_stop(struct sensors_thread **t); /* waits for it; nulls the pointer */

#endif
