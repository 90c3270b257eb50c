/*
 * The command line that zitd gives a runner.
 */
#ifndef RUNNER_OPTIONS_H
#define RUNNER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/ops.h"
#include "runner/generation.h"

struct runner_options {
	int channel_fd, status_fd;
	const char *name, *device, *model; /* borrowed from argv */
	uint32_t generation;
	enum precision precision;
	bool portable; /* as in device_options */
	enum text_weights text_encoder;
	int threads;
	int64_t max_pixels;
	const char *cache; /* directory of choices of algorithms, or NULL */
	bool probe;	   /* only say which devices there are */
};

/* false after saying on stderr what is wrong; *done: --help or --version was all that was asked for. */
bool runner_options_parse(struct runner_options *o, int argc, char **argv, bool *done);

#endif
