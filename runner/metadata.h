/*
 * What a picture says about itself (interfaces.md section 6.13): A1111's text, our JSON, XMP.
 */
#ifndef RUNNER_METADATA_H
#define RUNNER_METADATA_H

#include <stdbool.h>
#include <stdint.h>

struct metadata_facts {
	const char *job, *prompt, *negative_prompt; /* UTF-8 */
	uint64_t seed;
	int width, height, steps;
	float shift;
	const char *model, *model_hash, *device, *precision;
};

struct metadata {
	char *parameters; /* A1111's text */
	char *json;	  /* ours */
	char created[32]; /* ISO 8601, UTC */
};

/* false: no memory, and nothing to clear. */
bool metadata_make(struct metadata *m, const struct metadata_facts *facts);
void metadata_clear(struct metadata *m);

/* The XMP packet that says "made by a trained algorithm". */
extern const char metadata_xmp[];

#endif
