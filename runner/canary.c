/*
 * The smallest picture, as a probe of model and device.
 */
#include "runner/canary.h"

#include <stdlib.h>
#include <zlib.h>

enum { SIDE = 2 /* granules */ };

int
canary_draw(struct model *m, uint32_t *checksum, struct err *e)
{
	int side = SIDE * model_limits(m)->granule;
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
