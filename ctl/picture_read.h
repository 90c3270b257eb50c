/*
 * What a PNG says of itself, and whether two show the same. The file may be anybody's: it is read through
 * libpng with bounds on every size, and nothing in it is trusted.
 */
#ifndef CTL_PICTURE_READ_H
#define CTL_PICTURE_READ_H

#include <jansson.h>
#include <stddef.h>

#include "ipc/err.h"

enum { PICTURE_MAX_BYTES = 64 << 20, PICTURE_MAX_TEXT = 4 << 20, PICTURE_MAX_PIXELS = 64 << 20 };

struct picture_bytes {
	unsigned char *bytes; /* owned */
	size_t count;
};

/* Reads a whole file of at most PICTURE_MAX_BYTES; from its start, whatever the descriptor's place, which
 * stays. 0, -ERR_SYSTEM, or -ERR_INVALID_PARAM; the text names the file. */
int picture_load(const char *path, struct picture_bytes *out, struct err *e);
int picture_load_fd(int fd, const char *name, struct picture_bytes *out, struct err *e);
void picture_unload(struct picture_bytes *p);

/* {width, height, texts: {key: text}} of a PNG, a new reference: all texts before and after the pixels,
 * compressed or not, in UTF-8, the first of each key, none above PICTURE_MAX_TEXT; `damage` when a part of
 * the file could not be used, with the first reason. NULL: it is no PNG, or ends too early for that; *e says
 * so. */
json_t *picture_facts(const struct picture_bytes *p, const char *name, struct err *e);

/* 1: the same pixels, whatever else the files hold; 0: others, or another size; negative: one of them has
 * none that can be read, with *e. */
int picture_compare(const struct picture_bytes *a, const struct picture_bytes *b, struct err *e);

#endif
