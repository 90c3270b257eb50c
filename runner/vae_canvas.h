/*
 * A picture in the making, and the decoder's stages on it: for vae_decode.c. The picture is all of one, or
 * some rows of it on which the stages give what they would give on all.
 *
 * A convolution sees one row more than it makes on either side, so a band's outer rows are wrong once a stage
 * has been there, except where the picture ends; whoever makes a band takes so many rows more. Its norms are
 * those of all rows: the bands of a picture are walked once for each norm, to its sums, before they are
 * walked to the end.
 */
#ifndef RUNNER_VAE_CANVAS_H
#define RUNNER_VAE_CANVAS_H

#include "runner/vae_inside.h"

/* Rows of a picture that lies elsewhere, counted there. */
struct band {
	int64_t height;	      /* of that picture */
	int64_t begin, end;   /* what is walked */
	int64_t first, count; /* what is right in the end */
	int64_t strips;
	struct tensor sums; /* (norms strips, groups, 4), of the norms in the order of the walk */
	int known; /* norms whose sums are there; at the next the walk takes its own rows' and is over */
	int met;   /* norms on this walk */
};

/* A plan walks the same way with buffers without memory, and calls no operation. */
struct canvas {
	struct vae *vae;
	struct arena buffer[2];
	struct tensor picture; /* (h, w, channels), in the buffer `current` unless it has just begun */
	int current;
	struct band *band; /* NULL: the picture is all of it */
	const struct trace *trace;
};

bool canvas_is_plan(const struct canvas *c);
/* The buffer where the picture is not, empty: memory for one stage. */
struct arena *canvas_beside(struct canvas *c);

/* Steps 1 and 2 of section 8.1: latent (C, h, w) F32 to the first picture. */
void canvas_open(struct canvas *c, const struct tensor *latent);
/* Step 3: the middle. */
void canvas_mid(struct canvas *c);
/* Of step 4: the picture is doubled, unless it is the first block's, and goes through the resnets of up block
 * i. */
void canvas_up(struct canvas *c, int i);
/* Steps 5 and 6: the last norm and convolution, then bytes; of a band its rows of pixels (H, W, 3). */
void canvas_close(struct canvas *c, const struct tensor *pixels);

#endif
