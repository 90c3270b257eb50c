/*
 * What a runner prints: read from its stderr, passed on to ours line by line, and the end of it kept for
 * post-mortems. One that prints without end is read as fast as it writes, but only some of its lines are
 * passed on.
 */
#ifndef SUPERVISOR_RUNNERS_RUNNER_LOG_H
#define SUPERVISOR_RUNNERS_RUNNER_LOG_H

#include <ev.h>
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

enum { RUNNER_LOG_TAIL = 64 * 1024, RUNNER_LOG_LINE = 900, RUNNER_LOG_EXCERPT = 4096 };

struct handover;
struct runner;

struct runner_log {
	struct ev_loop *loop;
	const struct runner *runner;
	struct ev_io io;		/* the read end; fd -1: none */
	char *tail;			/* ring of the last RUNNER_LOG_TAIL bytes; made at first use */
	uint64_t bytes;			/* read in all */
	char line[RUNNER_LOG_LINE + 1]; /* begun and not ended */
	size_t line_length;
	double budget; /* lines that may be passed on now */
	int64_t budget_us;
	uint64_t dropped;
};

void runner_log_init(struct runner_log *l, struct ev_loop *loop, const struct runner *runner);
/* A pipe for a new process; the write end, the caller's to close once the process has it. -1 with errno. */
int runner_log_open(struct runner_log *l);
/* Reads what is there and closes; the tail stays. */
void runner_log_close(struct runner_log *l);
void runner_log_free(struct runner_log *l);
/* The last whole lines, at most `size` bytes with the NUL, safe to print; "" if there are none. */
void runner_log_excerpt(const struct runner_log *l, char *out, size_t size);
/* From one zitd to the next: the pipe and what was kept, a new reference; and back, into a new one. */
json_t *runner_log_hand_over(const struct runner_log *l, struct handover *h);
void runner_log_take_over(struct runner_log *l, const json_t *log);

#endif
