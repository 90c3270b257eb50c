/*
 * Errors of the CUDA runtime as failures of the device. After a sticky one no further call is made: an
 * operation looks at the failure first.
 */
#include "kernels/cuda/cuda.cuh"

enum device_fault
cuda_fault(int error)
{
	static const struct {
		int error;
		enum device_fault fault;
	} rows[] = {
#define CUDA_ERROR(number, fault) {number, fault},
#include "kernels/cuda/errors.def"
	};

	if (error == 0)
		return DEVICE_OK;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].error == error)
			return rows[i].fault;
	}
	return DEVICE_POISONED;
}

bool
cuda_check(struct cuda_device *c, cudaError_t error, const char *what)
{
	if (error == cudaSuccess)
		return true;
	device_fail(&c->base, cuda_fault(error), "cuda:%d: %s: %s (%d): %s", c->index, what,
	    cudaGetErrorName(error), (int)error, cudaGetErrorString(error));
	return false;
}

bool
cuda_failed(const struct cuda_device *c)
{
	return c->base.fault != DEVICE_OK;
}
