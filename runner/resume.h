/*
 * Where a picture stood after its last whole step, in memory that outlives this process (ipc/shm.h), so that
 * the next runner goes on there and ends with the same bits.
 *
 * The memory has two halves, written in turn: a process that dies while it writes one leaves the other. Each
 * half says what picture it belongs to, by a hash of everything its bits depend on, and has a checksum over
 * all that it holds; a half that is torn, damaged or of another picture does not count.
 */
#ifndef RUNNER_RESUME_H
#define RUNNER_RESUME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct resume;

enum { RESUME_IDENTITY = 32 };

/* What the bits of a picture depend on, besides the latent. */
struct resume_picture {
	const char *model_hash, *device; /* device: with its precision */
	const char *prompt;
	uint64_t seed;
	int width, height, steps;
	bool truncate;
};

/* Bytes of memory that a latent of `count` floats needs. */
uint64_t resume_bytes(size_t count);

/* Maps the memory behind fd, which is closed when that worked. NULL: it cannot be used, errno is not set. */
struct resume *resume_open(int fd);
void resume_close(struct resume **r);

/* Says which picture the following calls are about. */
void resume_begin(struct resume *r, const struct resume_picture *p);
/* The latest step of that picture and its latent of `count` floats; 0: there is nothing sound, `latent` is
 * untouched. */
int resume_load(struct resume *r, float *latent, size_t count);
/* Keeps the latent after `step` whole steps. Nothing happens when it does not fit. */
void resume_save(struct resume *r, int step, const float *latent, size_t count);

#endif
