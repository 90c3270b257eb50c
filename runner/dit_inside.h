/*
 * What a loaded transformer is made of: for dit.c and dit_time.c only.
 */
#ifndef RUNNER_DIT_INSIDE_H
#define RUNNER_DIT_INSIDE_H

#include "runner/dit.h"

enum { SINUSOIDS = 256 /* numbers that the time is embedded as */ };

struct block {
#define MATRIX(member, ...) struct weight *member;
#define VECTOR(member, ...) struct tensor member;
#include "runner/dit_block.def"
	struct weight *adaln;	  /* (4D, M); NULL in the context refiner */
	struct tensor adaln_bias; /* (4D) */
};

struct dit {
	struct transformer_config config;
	struct device *device;
	const struct ops *ops;

#define MATRIX(member, ...) struct weight *member;
#define VECTOR(member, ...) struct tensor member;
#define ROW(member, ...) struct tensor member;
#include "runner/dit_ends.def"

	double *frequency; /* (hd / 2), of rotation */
	int modulated;	   /* the first ones of blocks: those with adaLN */
	struct block *noise_refiner, *layers, *context_refiner; /* into blocks, in this order */
	struct block blocks[];
};

#endif
