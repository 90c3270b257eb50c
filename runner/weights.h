/*
 * From named tensors of a checkpoint to weights on a device. The networks say names and shapes; this file
 * does the rest: small vectors go to F32 tensors in pooled memory, matrices and kernels to the backend's own
 * layout.
 */
#ifndef RUNNER_WEIGHTS_H
#define RUNNER_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "kernels/ops.h"
#include "runner/checkpoint.h"
#include "ipc/sha256.h"

enum { WEIGHT_NAME = 160, WEIGHT_MAX_CHUNKS = 64, WEIGHT_MAX_PARTS = 4 };

/* One loading. After a failure every call does nothing; `status` and *e keep the first one. */
struct loader {
	struct device *device;
	const struct ops *ops;
	const struct checkpoint *checkpoint; /* the part being read */
	char prefix[WEIGHT_NAME];	     /* put before every name: "layers.3." */
	int status;
	struct err *e;

	void (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes); /* may be NULL */
	void *progress_arg;
	uint64_t done_bytes, total_bytes;
	struct sha256 *identity; /* fed with the first bytes of every tensor; may be NULL */

	/* A plan looks everything up and puts nothing on the device: networks without weights, for planning
	 * their stages. A weight is counted as what it takes in the activations' type. */
	bool plans;
	uint64_t weight_bytes, vector_bytes; /* that a plan has come to */

	void *chunks[WEIGHT_MAX_CHUNKS]; /* pooled memory of vectors; the caller releases them after use */
	int chunk_count;
	size_t chunk_used;
};

void loader_prefix(struct loader *l, const char *format, ...) __attribute__((format(printf, 2, 3)));

uint64_t loader_planned(const struct loader *l); /* bytes of device memory */

/* `name` (n), or (1, n) for load_row, as an F32 vector. */
void load_vector(struct loader *l, struct tensor *out, const char *name, int64_t n);
void load_row(struct loader *l, struct tensor *out, const char *name, int64_t n);
/* One matrix (sum of rows, columns) from parts stacked by rows. */
struct load_part {
	const char *name;
	int64_t rows;
};
void load_parts(
    struct loader *l, struct weight **out, int64_t columns, const struct load_part *parts, size_t count);
#define LOAD_PARTS(l, out, columns, ...) /* of {"name", rows}, ... */ \
	load_parts(l, out, columns, (const struct load_part[]){__VA_ARGS__}, \
	    sizeof((struct load_part[]){__VA_ARGS__}) / sizeof(struct load_part))
/* The same in two: where the parts are in the checkpoint, counted as read; and what is found there. */
struct stored_parts {
	const char *name; /* of the first, without the loader's prefix */
	struct stored part[WEIGHT_MAX_PARTS];
	int count;
};
void find_parts(
    struct loader *l, struct stored_parts *out, int64_t columns, const struct load_part *parts, size_t count);
#define FIND_PARTS(l, out, columns, ...) \
	find_parts(l, out, columns, (const struct load_part[]){__VA_ARGS__}, \
	    sizeof((struct load_part[]){__VA_ARGS__}) / sizeof(struct load_part))
void load_found(struct loader *l, struct weight **out, const struct stored_parts *found);
void load_matrix(struct loader *l, struct weight **out, const char *name, int64_t rows, int64_t columns);
void find_table(struct loader *l, struct stored *out, const char *name, int64_t rows, int64_t columns);
void load_table(struct loader *l, struct weight **out, const char *name, int64_t rows, int64_t columns);
/* `name`.weight (outputs, inputs, k, k) and `name`.bias (outputs). */
void load_conv(struct loader *l, struct weight **out, struct tensor *bias, const char *name, int64_t outputs,
    int64_t inputs, int64_t k);

#endif
