/*
 * What the CPU backend's operations stand on: failures, scratch memory, and inputs of products in it.
 */
#include <stdlib.h>

#include "kernels/convert.h"
#include "kernels/cpu/cpu.h"

enum { ALIGNMENT = 64 };

enum dtype
cpu_product_type(const struct cpu_device *c)
{
	return c->base.precision == PRECISION_BF16 ? DT_BF16 : DT_F32;
}

bool
cpu_failed(const struct device *d)
{
	return d->fault != DEVICE_OK;
}

bool
cpu_check(struct cpu_device *c, dnnl_status_t status, const char *what)
{
	if (status == dnnl_success)
		return true;
	device_fail(&c->base, status == dnnl_out_of_memory ? DEVICE_OUT_OF_MEMORY : DEVICE_INTERNAL,
	    "oneDNN: %s: status %d", what, (int)status);
	return false;
}

void *
cpu_scratch(struct cpu_device *c, enum scratch use, size_t bytes)
{
	void *memory;

	if (bytes <= c->scratch_bytes[use])
		return c->scratch[use];
	bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	memory = aligned_alloc(ALIGNMENT, bytes);
	if (memory == NULL) {
		device_fail(&c->base, DEVICE_OUT_OF_MEMORY, "no memory for %zu bytes of scratch", bytes);
		return NULL;
	}
	free(c->scratch[use]);
	c->scratch[use] = memory;
	c->scratch_bytes[use] = bytes;
	return memory;
}

const void *
cpu_product_input(struct cpu_device *c, enum scratch use, const float *x, int64_t count)
{
	uint16_t *rounded;

	if (cpu_product_type(c) == DT_F32)
		return x;
	rounded = cpu_scratch(c, use, (size_t)count * sizeof(*rounded));
	if (rounded == NULL)
		return NULL;
#pragma omp parallel for schedule(static)
	for (int64_t i = 0; i < count; i++)
		rounded[i] = bf16_of_float(x[i]);
	return rounded;
}
