/*
 * The smallest picture, as a probe of model and device.
 */
#include "runner/canary.h"

#include <stdlib.h>
#include <zlib.h>

enum { SIDE = 2 /* granules */ };

/* One step of a picture of that side; its pixels' checksum. */
static int
draw(struct model *m, int side, uint32_t *checksum, struct err *e)
{
	size_t bytes = (size_t)side * (size_t)side * 3;
	struct generation_request request = {
	    .prompt = "", .width = side, .height = side, .steps = 1, .fresh = true};
	struct generation *g = NULL;
	uint8_t *rgb = malloc(bytes);
	int status = rgb != NULL ? 0 : err_set(e, ERR_SYSTEM, "out of memory");

	if (status == 0)
		status = generation_start(&g, m, &request, e);
	if (status == 0)
		status = generation_step(g, e);
	if (status == 0)
		status = generation_decode(g, rgb, e);
	if (status == 0)
		*checksum = (uint32_t)crc32_z(0, rgb, bytes);
	generation_free(&g);
	free(rgb);
	return status;
}

int
canary_draw(struct model *m, uint32_t *checksum, struct err *e)
{
	return draw(m, SIDE * model_limits(m)->granule, checksum, e);
}

int
canary_warm(struct model *m, struct err *e)
{
	const struct model_limits *l = model_limits(m);
	int side = l->default_side;
	uint32_t checksum;

	while ((int64_t)side * side > l->max_pixels)
		side -= l->granule;
	return draw(m, side, &checksum, e);
}
