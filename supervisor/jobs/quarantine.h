/*
 * Requests that kill runners: what they asked for is remembered for a while and refused, then let in once to
 * see.
 */
#ifndef SUPERVISOR_JOBS_QUARANTINE_H
#define SUPERVISOR_JOBS_QUARANTINE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "ipc/api.h"

enum { QUARANTINE_ENTRIES = 64 };

struct quarantine {
	struct {
		uint64_t fingerprint;
		int64_t until_us; /* CLOCK_MONOTONIC; 0: this entry is free */
		bool probing;	  /* one such job is in */
	} entries[QUARANTINE_ENTRIES];
};

enum verdict { VERDICT_ADMIT, VERDICT_PROBE /* admit it, alone */, VERDICT_REFUSE };

/* Of all that a picture's course depends on but its seed: prompts, sizes, steps. */
uint64_t quarantine_fingerprint(const struct api_submit *p);

/* What becomes of such a request; *left_s is how long it will be refused. `force`: an administrator wants to
 * see. */
enum verdict quarantine_check(
    const struct quarantine *q, uint64_t fingerprint, int64_t now_us, bool force, double *left_s);
void quarantine_add(
    struct quarantine *q, uint64_t fingerprint, int64_t until_us); /* the oldest one gives way */
void quarantine_probe(struct quarantine *q, uint64_t fingerprint); /* one is in now */
/* That one has ended: `good` ends the quarantine, else the next one may be the probe. */
void quarantine_probed(struct quarantine *q, uint64_t fingerprint, bool good);

/* Over a restart: until when, by the wall clock; a new reference. A probe that was in then is as if it never
 * was. */
json_t *quarantine_dump(const struct quarantine *q, int64_t now_us, int64_t wall_us);
/* None gets more than longest_us from now, for the wall clock may have been set back. false: it is no such
 * thing; what could be read of it counts. */
bool quarantine_restore(
    struct quarantine *q, const json_t *entries, int64_t now_us, int64_t wall_us, int64_t longest_us);

#endif
