/*
 * Golden arrays that tests/golden/golden-tiny.py wrote, and comparing with them.
 */
#include "tests/model/golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const char *
golden_dir(const char *which)
{
	static char path[128];
	const char *root = getenv("GOLDEN_ROOT");

	snprintf(path, sizeof(path), "%s/%s", root != NULL ? root : "build", which);
	return path;
}

float *
golden_read(const char *dir, const char *name, size_t *count)
{
	char path[512];
	float *data = NULL;
	long bytes;
	FILE *file;

	snprintf(path, sizeof(path), "%s/golden/%s.f32", dir, name);
	file = fopen(path, "rb");
	if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (bytes = ftell(file)) <= 0) {
		fprintf(stderr, "%s cannot be read; 'make golden' writes it\n", path);
		exit(1);
	}
	rewind(file);
	data = malloc((size_t)bytes);
	*count = (size_t)bytes / sizeof(float);
	if (data == NULL || fread(data, sizeof(float), *count, file) != *count) {
		fprintf(stderr, "%s cannot be read\n", path);
		exit(1);
	}
	fclose(file);
	return data;
}

struct golden_error
golden_compare(const float *got, const float *want, size_t count)
{
	double squares = 0, reference = 0, largest = 0, scale = 0;

	for (size_t i = 0; i < count; i++) {
		double d = (double)got[i] - want[i];
		if (isnan(got[i]))
			return (struct golden_error){INFINITY, INFINITY};
		squares += d * d;
		reference += (double)want[i] * want[i];
		largest = fabs(d) > largest ? fabs(d) : largest;
		scale = fabs(want[i]) > scale ? fabs(want[i]) : scale;
	}
	return (struct golden_error){sqrt(squares / reference), largest / scale};
}
