/*
 * What a picture's PNG takes on one core: a field of smooth colours with the grain of a photograph, which is
 * as hard to compress as what the model draws. Processor time, so that others on a shared machine do not
 * count.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "runner/metadata.h"
#include "runner/png_writer.h"

enum { SIDE = 1024, ROUNDS = 15 };

static uint8_t picture[SIDE * SIDE * 3];

/* Waves of some lengths, and up to 4 levels of grain. */
static void
draw(void)
{
	uint32_t chance = 1;

	for (int at = 0; at < SIDE * SIDE * 3; at++) {
		double x = at / 3 % SIDE, y = at / 3 / SIDE, c = at % 3;
		double wave = sin(x / 97 + c) + sin(y / 61 - c) + sin((x + 2 * y) / 211) * sin((x - y) / 23);
		chance = chance * 1664525 + 1013904223;
		picture[at] = (uint8_t)(127 + 30 * wave + (double)(chance >> 30));
	}
}

static double
processor_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int
main(void)
{
	struct metadata metadata = {"a cat", "{}", "2026-01-01T00:00:00Z"};
	double ms[ROUNDS];
	uint64_t bytes = 0;
	struct err e;

	draw();
	for (int i = -1; i < ROUNDS; i++) {
		double begin = processor_ms();
		int fd = png_write(picture, SIDE, SIDE, &metadata, &bytes, &e);
		if (fd < 0) {
			fprintf(stderr, "bench_png: %s\n", e.text);
			return 1;
		}
		if (i >= 0)
			ms[i] = processor_ms() - begin;
		close(fd);
	}
	qsort(ms, ROUNDS, sizeof(ms[0]), compare);
	printf("png-%d %.1f ms of one core (best %.1f, n %d), %.2f MB  (target 40 ms, P13)\n", SIDE,
	    ms[ROUNDS / 2], ms[0], ROUNDS, (double)bytes * 1e-6);
	return 0;
}
