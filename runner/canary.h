/*
 * The smallest picture, one step: made at the start, so that libraries load what they load late and a broken
 * device shows, and made again when zitd asks, to see that it still has the same bits.
 */
#ifndef RUNNER_CANARY_H
#define RUNNER_CANARY_H

#include <stdint.h>

#include "runner/generation.h"

/* 0 with the checksum of its pixels, or the error of generation.h that it ended with. */
int canary_draw(struct model *m, uint32_t *checksum, struct err *e);

#endif
