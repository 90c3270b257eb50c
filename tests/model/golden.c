/*
 * Golden arrays that tests/golden/golden-tiny.py wrote, and comparing with them.
 */
#include "tests/model/golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/device.h"

bool
golden_is_bf16(const struct golden_setting *s)
{
	return s->precision == PRECISION_BF16;
}

const char *
golden_setting_name(const struct golden_setting *s)
{
	static char name[32];

	snprintf(name, sizeof(name), "%s %s", s->backend, golden_is_bf16(s) ? "bf16" : "f32");
	return name;
}

bool
golden_must_skip(const char *backend, enum precision precision)
{
	return strcmp(backend, "cpu") == 0 && precision == PRECISION_BF16 &&
	       !__builtin_cpu_supports("avx512bw");
}

struct device *
golden_device(const struct golden_setting *s)
{
	struct device_options options = {.precision = s->precision, .threads = 2};
	struct device *d = NULL;
	char why[200];

	if (golden_must_skip(s->backend, s->precision))
		skip();
	if (device_open(&d, s->backend, &options, why, sizeof(why)) != 0)
		fail_msg("%s: %s", golden_setting_name(s), why);
	return d;
}

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

float *
golden_unit(const char *name, double factor, size_t count)
{
	float *out = malloc(count * sizeof(float));
	uint32_t hash = 0x811c9dc5;

	assert_non_null(out);
	for (; *name != '\0'; name++)
		hash = (hash ^ (uint8_t)*name) * 0x01000193;
	for (size_t i = 0; i < count; i++) {
		uint32_t x = hash + (uint32_t)i * 0x9e3779b9;
		x = (x ^ x >> 16) * 0x7feb352d;
		x = (x ^ x >> 15) * 0x846ca68b;
		x ^= x >> 16;
		out[i] = (float)(factor * (x / 2147483648.0 - 1.0));
	}
	return out;
}

void
golden_check(const struct golden_setting *s, const char *dir, const char *name, const float *got,
    size_t count, double tolerance)
{
	size_t wanted;
	float *want = golden_read(dir, name, &wanted);
	struct golden_error error = {INFINITY, INFINITY};
	double seen;

	if (count == wanted)
		error = golden_compare(got, want, count);
	free(want);
	seen = golden_is_bf16(s) ? error.relative_rms : error.relative_max;
	printf("%-8s %-18s %-18s max %.1e  rms %.1e  of %.0e\n", golden_setting_name(s), dir, name,
	    error.relative_max, error.relative_rms, tolerance);
	if (!(seen <= tolerance))
		fail_msg("%s is off by %.2e (%zu values, %zu wanted)", name, seen, count, wanted);
}

void
golden_check_tensor(const struct golden_setting *s, struct device *d, const char *dir, const char *name,
    const struct tensor *t, double tolerance)
{
	size_t count = (size_t)tensor_count(t);
	float *host = malloc(count * sizeof(float));

	assert_non_null(host);
	device_ops(d)->copy_out(d, host, DT_F32, t);
	golden_check(s, dir, name, host, count, tolerance);
	free(host);
}

/* ---- devices with little memory */

#define EMULATED ((uint64_t)1 << 30) /* bytes of the emulated device, unless EMUL_MEMORY says otherwise */

static uint64_t limit_bytes;

static uint64_t
limited_bytes(struct device *d)
{
	(void)d;
	return limit_bytes;
}

struct device *
golden_limited_device(const struct golden_setting *setting, uint64_t bytes)
{
	struct device *d = golden_device(setting);
	uint64_t before = device_free_bytes(d);
	char text[32];

	if (before == 0) {
		limit_bytes = bytes;
		d->free_bytes = limited_bytes;
		return d;
	}
	snprintf(text, sizeof(text), "%llu", (unsigned long long)((EMULATED - before + bytes) >> 10));
	setenv("EMUL_MEMORY", text, 1);
	if (device_free_bytes(d) == before) {
		device_close(&d);
		skip();
	}
	return d;
}

void
golden_unlimit(struct device **d)
{
	device_close(d);
	unsetenv("EMUL_MEMORY");
}
