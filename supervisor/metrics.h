/*
 * What is counted for monitoring while zitd runs. What can be looked at when it is asked for is not here but
 * in daemon_metrics.c.
 *
 * Counts go on over an upgrade, for the process does, and begin anew with the next process.
 */
#ifndef SUPERVISOR_METRICS_H
#define SUPERVISOR_METRICS_H

#include <jansson.h>
#include <stdint.h>

#include "supervisor/histogram.h"
#include "supervisor/jobs/job.h"

#define METRICS_SOURCES(SOURCE) \
	SOURCE(SOCKET, "unix") \
	SOURCE(RETRY, "retry")

/* Names of err.def that a submission is refused with; any other is counted as "other". */
#define METRICS_REASONS(REASON) \
	REASON(INVALID_PARAM) \
	REASON(UNSUPPORTED) \
	REASON(TOO_BIG) \
	REASON(QUEUE_FULL) \
	REASON(CLIENT_CAP) \
	REASON(RATE_LIMITED) \
	REASON(DEADLINE_UNREACHABLE) \
	REASON(QUEUE_TIMEOUT) \
	REASON(POISONED) \
	REASON(NO_RUNNER) \
	REASON(DRAINING) \
	REASON(DISK_FULL) \
	REASON(NOT_PERMITTED) \
	REASON(ID_CONFLICT)

/* TIMEOUT(NAME, "label", "what it means") */
#define METRICS_TIMEOUTS(TIMEOUT) \
	TIMEOUT(QUEUE, "queue", "a job waited, or was held, too long") \
	TIMEOUT(DEADLINE, "deadline", "a job met its deadline, waiting or running") \
	TIMEOUT(EXECUTION, "execution", "a job ran too long") \
	TIMEOUT(WRITE, "write", "a result could not be written in time") \
	TIMEOUT(START, "start", "a runner was not ready in time") \
	TIMEOUT(HANG, "hang", "a runner showed no progress") \
	TIMEOUT(CANCEL, "cancel", "a runner did not let go of a job") \
	TIMEOUT(STOP, "stop", "a runner did not end when it was asked to") \
	TIMEOUT(REAP, "reap", "a runner was not gone when it had been killed") \
	TIMEOUT(CONNECT, "connect", "a client sent no request") \
	TIMEOUT(STALL, "stall", "a client sent or took nothing more")

enum metrics_source {
#define SOURCE(name, text) METRICS_FROM_##name,
	METRICS_SOURCES(SOURCE)
#undef SOURCE
	    METRICS_SOURCE_COUNT
};

enum {
#define REASON(name) METRICS_REASON_##name,
	METRICS_REASONS(REASON)
#undef REASON
	    METRICS_REASON_OTHER,
	METRICS_REASON_COUNT
};

enum metrics_timeout {
#define TIMEOUT(name, text, help) METRICS_TIMEOUT_##name,
	METRICS_TIMEOUTS(TIMEOUT)
#undef TIMEOUT
	    METRICS_TIMEOUT_COUNT,
	METRICS_TIMEOUT_NONE
};

enum { METRICS_OUTCOME_COUNT = JOB_STATE_COUNT - JOB_FIRST_FINAL };

struct metrics {
	uint64_t submitted[CLASS_COUNT][METRICS_SOURCE_COUNT];
	uint64_t completed[CLASS_COUNT][METRICS_OUTCOME_COUNT]; /* by state - JOB_FIRST_FINAL */
	uint64_t rejected[METRICS_REASON_COUNT];
	uint64_t timeouts[METRICS_TIMEOUT_COUNT];
	struct histogram queue_wait, stages[STAGE_COUNT];
	int64_t started_us; /* of the wall clock, as are these: when the process was started */
	int64_t success_us; /* 0: never */
	int64_t reload_us;  /* of the last good one */
	bool reload_failed; /* the last one */
};

void metrics_init(struct metrics *m);
void metrics_count_submitted(struct metrics *m, const struct job *job, enum metrics_source source);
void metrics_count_rejected(struct metrics *m, enum err_code code);
/* It runs for the first time. */
void metrics_count_started(struct metrics *m, const struct job *job);
void metrics_count_ended(struct metrics *m, const struct job *job);
/* METRICS_TIMEOUT_NONE is none. */
void metrics_count_timeout(struct metrics *m, enum metrics_timeout kind);
void metrics_count_reload(struct metrics *m, bool good);

/* Values of labels. */
const char *metrics_source_name(enum metrics_source source);
const char *metrics_reason_name(int reason);
const char *metrics_timeout_name(enum metrics_timeout kind);

/* Over an upgrade: the counts as JSON, a new reference; and back, where they are as many as here. */
json_t *metrics_dump(const struct metrics *m);
void metrics_restore(struct metrics *m, const json_t *dump);

#endif
