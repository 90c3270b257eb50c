/*
 * zit-runner --probe: which devices there are, for zitd, which is not linked with their libraries.
 */
#ifndef RUNNER_PROBE_H
#define RUNNER_PROBE_H

/* Prints one JSON object, {"devices":[{"device","uuid","name","memory_bytes","compute_capability"}, ...]}, or
 * with no devices {"devices":[],"reason":"..."}. The exit status: 0, or 77 when there is none. */
int probe_print(void);

#endif
