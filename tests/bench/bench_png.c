/*
 * What a picture's PNG takes on one core: a field of smooth colours with the grain of a photograph, which is
 * as hard to compress as what the model draws. Processor time, so that others on a shared machine do not
 * count.
 */
#include <math.h>
#include <png.h>
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

/* Ours; 0 after a failure. */
static uint64_t
write_ours(void)
{
	struct metadata metadata = {"a cat", "{}", "2026-01-01T00:00:00Z"};
	uint64_t bytes = 0;
	struct err e;
	int fd = png_write(picture, SIDE, SIDE, &metadata, &bytes, &e);

	if (fd < 0)
		fprintf(stderr, "bench_png: %s\n", e.text);
	else
		close(fd);
	return bytes;
}

/* As libpng does it when nobody says how: all filters tried, level 6. 0 after a failure. */
static uint64_t
write_as_libpng_does(void)
{
	static uint8_t file[2 * sizeof(picture)];
	png_image image = {
	    .version = PNG_IMAGE_VERSION, .width = SIDE, .height = SIDE, .format = PNG_FORMAT_RGB};
	png_alloc_size_t bytes = sizeof(file);

	if (png_image_write_to_memory(&image, file, &bytes, 0, picture, 0, NULL))
		return bytes;
	fprintf(stderr, "bench_png: %s\n", image.message);
	return 0;
}

static double
timed(uint64_t (*write_png)(void), uint64_t *bytes)
{
	double begin = processor_ms();

	*bytes = write_png();
	return processor_ms() - begin;
}

int
main(void)
{
	double ours[ROUNDS], theirs[ROUNDS];
	uint64_t our_bytes, their_bytes;

	draw();
	for (int i = 0; i < ROUNDS; i++) { /* in turn: what disturbs one disturbs the other */
		ours[i] = timed(write_ours, &our_bytes);
		theirs[i] = timed(write_as_libpng_does, &their_bytes);
		if (our_bytes == 0 || their_bytes == 0)
			return 1;
	}
	qsort(ours, ROUNDS, sizeof(ours[0]), compare);
	qsort(theirs, ROUNDS, sizeof(theirs[0]), compare);
	printf("png-%d %.1f ms of one core (best %.1f, n %d), %.2f MB; libpng's defaults %.1f ms, %.2f MB: "
	       "%.3f of their time"
	       "  (P13: 40 ms where those take 268: 0.149)\n",
	    SIDE, ours[ROUNDS / 2], ours[0], ROUNDS, (double)our_bytes * 1e-6, theirs[ROUNDS / 2],
	    (double)their_bytes * 1e-6, ours[ROUNDS / 2] / theirs[ROUNDS / 2]);
	return 0;
}
