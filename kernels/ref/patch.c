/*
 * patchify, unpatchify and to_channels_last, by definition.
 */
#include "kernels/ref/ref.h"

/* Where entry (r, e) of the rows lies in a latent (C, h, w): e = (dy*2 + dx) C + c, r = Y (w/2) + X. */
static int64_t
latent_index(int64_t r, int64_t e, int64_t channels, int64_t h, int64_t w)
{
	int64_t c = e % channels, dx = e / channels % 2, dy = e / channels / 2;
	int64_t y = r / (w / 2) * 2 + dy, x = r % (w / 2) * 2 + dx;

	return (c * h + y) * w + x;
}

void
ref_patchify(struct device *d, struct tensor *rows, const struct tensor *latent)
{
	int64_t channels = latent->dim[0], h = latent->dim[1], w = latent->dim[2];

	(void)d;
	for (int64_t r = 0; r < h / 2 * (w / 2); r++) {
		for (int64_t e = 0; e < 4 * channels; e++)
			((float *)rows->data)[r * 4 * channels + e] =
			    ((const float *)latent->data)[latent_index(r, e, channels, h, w)];
	}
}

void
ref_unpatchify(struct device *d, struct tensor *latent, const struct tensor *rows, float sign)
{
	int64_t channels = latent->dim[0], h = latent->dim[1], w = latent->dim[2];

	(void)d;
	for (int64_t r = 0; r < h / 2 * (w / 2); r++) {
		for (int64_t e = 0; e < 4 * channels; e++)
			((float *)latent->data)[latent_index(r, e, channels, h, w)] =
			    sign * ((const float *)rows->data)[r * 4 * channels + e];
	}
}

void
ref_to_channels_last(struct device *d, struct tensor *y, const struct tensor *x)
{
	int64_t channels = x->dim[0], pixels = x->dim[1] * x->dim[2];

	(void)d;
	for (int64_t p = 0; p < pixels; p++) {
		for (int64_t c = 0; c < channels; c++)
			((float *)y->data)[p * channels + c] = ((const float *)x->data)[c * pixels + p];
	}
}
