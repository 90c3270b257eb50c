/*
 * One safetensors file: its header checked, its data mapped (model-spec section 1.4).
 */
#ifndef RUNNER_SAFETENSORS_H
#define RUNNER_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "ipc/err.h"
#include "kernels/ops.h"

struct safetensors_entry {
	char *name; /* owned by the file */
	struct stored tensor;
	uint64_t bytes;
	const char *stored_type; /* "F32", as the header has it */
	bool readable;		 /* one of the types of struct stored; tensor.type is meaningless otherwise */
};

struct safetensors {
	char *path;
	int fd;
	struct timespec changed; /* its content, last, when it was opened */
	void *map;		 /* the whole file */
	size_t map_bytes;
	struct safetensors_entry *entries; /* sorted by name */
	size_t count;
	uint64_t data_bytes;
	struct err lost; /* what is to be said when its mapped bytes cannot be read any more */
	struct safetensors *next;
};

/* 0, -ERR_SYSTEM (no memory to map it), or -ERR_BAD_CHECKPOINT naming the file and, where there is one, the
 * tensor. The file's size is that of the moment of opening: reading one that is cut while it is mapped raises
 * SIGBUS (bus_error.h). */
int safetensors_open(struct safetensors **file, const char *path, struct err *e);
/* 0, or -ERR_BAD_CHECKPOINT when its bytes or their number have changed since: what is mapped is no longer
 * what was checked, and reading may end the process. */
int safetensors_check(const struct safetensors *file, struct err *e);
void safetensors_close(struct safetensors **file);

/* The open file whose mapping has the address, or NULL. For a signal's handler. */
const struct safetensors *safetensors_at(const void *address);

/* NULL when there is none. */
const struct safetensors_entry *safetensors_find(const struct safetensors *file, const char *name);

#endif
