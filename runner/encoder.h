/*
 * The one thread that makes PNGs beside the next picture's steps: a bounded queue in, finished pictures out.
 */
#ifndef RUNNER_ENCODER_H
#define RUNNER_ENCODER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "ipc/err.h"
#include "runner/metadata.h"

enum { ENCODER_DEPTH = 2 };

/* One picture; made by the session, changed by the thread until it comes back. */
struct encode_task {
	uint8_t *rgb; /* (height, width, 3); owned */
	int width, height;
	struct metadata metadata; /* owned */
	void *owner;		  /* the session's job */
	uint32_t picture;
	uint64_t seed;

	int fd; /* sealed memfd, or -1 with `error` */
	uint64_t bytes;
	double seconds;
	struct err error;
	STAILQ_ENTRY(encode_task) link; /* the encoder's */
};

struct encoder;

struct encoder *encoder_new(void);     /* NULL with errno */
void encoder_free(struct encoder **e); /* waits for the picture in hand; drops the rest */
/* Readable when finished pictures are there. */
int encoder_fd(const struct encoder *e);
bool encoder_is_full(struct encoder *e);
/* Takes the task; the encoder must not be full. */
void encoder_put(struct encoder *e, struct encode_task *task);
/* A finished one, the caller's; NULL when there is none. */
struct encode_task *encoder_take(struct encoder *e);

void encode_task_free(struct encode_task **task);

#endif
