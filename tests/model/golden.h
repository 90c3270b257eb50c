/*
 * Golden arrays that tests/golden/golden-tiny.py wrote, comparing with them, and the settings of the backends
 * that are compared.
 *
 * Tolerances, for every stage:
 *   f32   1e-4 of the stage's largest value, for the worst element: sums of up to 1024 products in float32, a
 *         few of them in a row, where numpy has float64; 1e-7 to 1e-5 is seen
 *   bf16  2 % relative RMS in one forward, 1 % in a latent of four steps: on this checkpoint the public
 *         implementation's own bf16 is 1.0 % and 0.5 % off (model-spec section 6.9); a structural mistake
 *         shows as 10 % or more. Pixels: 1 % of a picture's RMS is about 1 of 255, and the worst of 46080
 * values is four to five times that; 2 is seen
 */
#ifndef TESTS_MODEL_GOLDEN_H
#define TESTS_MODEL_GOLDEN_H

#include <stdbool.h>
#include <stddef.h>

#include "kernels/ops.h"

struct golden_setting {
	const char *backend;
	enum precision precision;
	double stage, latent;  /* tolerances */
	int pixel;	       /* of 255 */
	const char *reference; /* checkpoint of configuration B for test_reference; A has one, in bf16, with
				  the same values */
	int max_area;	       /* pixels there; the plain loops of ref are for small pictures */
	int max_tokens;	       /* of a prompt there */
	int max_golden;	       /* pixels of test_golden's picture, which depend on its checkpoint */
};

/* Those of the program: settings.c, or settings_cuda.c. */
extern const struct golden_setting golden_settings[];
extern const size_t golden_setting_count;

bool golden_is_bf16(const struct golden_setting *s);
const char *golden_setting_name(const struct golden_setting *s); /* "cpu bf16"; static */
/* Whether the processor has nothing to make such products with: no AVX-512, no bf16 on the cpu backend. */
bool golden_must_skip(const char *backend, enum precision precision);
/* Opens its device; skips the test where golden_must_skip says so, fails it when it cannot. */
struct device *golden_device(const struct golden_setting *s);

/* A device that has so many bytes free: the emulated one takes no more from then on, one with the host's
 * memory only says so. Skips the test on a card. golden_unlimit closes it. */
struct device *golden_limited_device(const struct golden_setting *s, uint64_t bytes);
void golden_unlimit(struct device **d);

/* The directory of a golden checkpoint below build/ (or $GOLDEN_ROOT); static. */
const char *golden_dir(const char *which);

/* dir/golden/NAME.f32 as floats, the caller's to free; ends the test when it cannot be read. */
float *golden_read(const char *dir, const char *name, size_t *count);

/* `count` values in [-factor, factor) by golden-tiny's formula on `name`; the caller's to free. */
float *golden_unit(const char *name, double factor, size_t count);

struct golden_error {
	double relative_rms; /* sqrt(mean (a-b)^2 / mean b^2) */
	double relative_max; /* max |a-b| / max |b| */
};

struct golden_error golden_compare(const float *got, const float *want, size_t count);

/* Prints how far `got` is from dir/golden/NAME.f32, and fails the test where that is more than `tolerance`.
 */
void golden_check(const struct golden_setting *s, const char *dir, const char *name, const float *got,
    size_t count, double tolerance);
/* The same for a tensor of the device. */
void golden_check_tensor(const struct golden_setting *s, struct device *d, const char *dir, const char *name,
    const struct tensor *t, double tolerance);

#endif
