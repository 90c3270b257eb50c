/*
 * Tensor maps, made by the driver, and whether this device has them.
 */
#include "kernels/cuda/boxes.cuh"

#include "kernels/cuda/panels.cuh"

/* What the driver took of this build for the device shows in any kernel. */
__global__ static void
nothing_kernel(void)
{
}

typedef CUresult map_encoder(CUtensorMap *map, CUtensorMapDataType type, cuuint32_t rank, void *address,
    const cuuint64_t *dims, const cuuint64_t *strides, const cuuint32_t *box, const cuuint32_t *steps,
    CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
    CUtensorMapFloatOOBfill fill);

bool
cuda_boxes_open(struct cuda_device *c)
{
	cudaFuncAttributes code = {};
	cudaDriverEntryPointQueryResult found;

	if (c->portable)
		return true;
	if (!cuda_check(c, cudaFuncGetAttributes(&code, (const void *)nothing_kernel), "the build's code"))
		return false;
	if (code.ptxVersion != 90) /* the driver took the code for sm_80, without wgmma */
		return true;
	if (!cuda_check(c,
		cudaGetDriverEntryPointByVersion(
		    "cuTensorMapEncodeTiled", &c->encode_map, 12000, cudaEnableDefault, &found),
		"the driver's tensor maps"))
		return false;
	if (found != cudaDriverEntryPointSuccess)
		c->encode_map = NULL;
	return true;
}

bool
cuda_map_boxes(
    struct cuda_device *c, CUtensorMap *map, const void *data, const int64_t dim[3], int high, int deep)
{
	cuuint64_t dims[] = {(cuuint64_t)dim[0], (cuuint64_t)dim[1], (cuuint64_t)dim[2]};
	cuuint64_t strides[] = {dims[0] * sizeof(bf16), dims[1] * dims[0] * sizeof(bf16)};
	cuuint32_t box[] = {PANEL_NUMBERS, (cuuint32_t)high, (cuuint32_t)deep}, steps[] = {1, 1, 1};
	int error = ((map_encoder *)c->encode_map)(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, (void *)data,
	    dims, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
	    CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);

	if (error != CUDA_SUCCESS)
		device_fail(&c->base, DEVICE_INTERNAL, "no tensor map of %lldx%lldx%lld at %p (%d)",
		    (long long)dim[2], (long long)dim[1], (long long)dim[0], data, error);
	return error == CUDA_SUCCESS;
}
