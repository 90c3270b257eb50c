/*
 * zit-runner --probe: which devices there are, for zitd, which is not linked with their libraries.
 */
#ifndef RUNNER_PROBE_H
#define RUNNER_PROBE_H

/* Prints one JSON object, {"devices":[{"device","uuid","name","memory_bytes","compute_capability"}, ...]}; a
 * device that cannot be used has a "reason", and so has the object when none can. The exit status: 0, or 77
 * when none can be used. */
int probe_print(void);

#endif
