/*
 * Pixels to a PNG in a sealed memfd, through libpng. Blocking; meant for a thread beside the model.
 */
#ifndef RUNNER_PNG_WRITER_H
#define RUNNER_PNG_WRITER_H

#include <stdint.h>

#include "ipc/err.h"
#include "runner/metadata.h"

/* rgb (height, width, 3). Returns the sealed memfd, the caller's, and its size; or -ERR_INTERNAL,
 * -ERR_SYSTEM. */
int png_write(const uint8_t *rgb, int width, int height, const struct metadata *metadata, uint64_t *bytes,
    struct err *e);

#endif
