/*
 * The part of the CUDA runtime and language that kernels/cuda uses, for tests/emul/emul.h. Names, arguments
 * and numbers are those of the real header.
 */
#ifndef TESTS_EMUL_CUDA_RUNTIME_H
#define TESTS_EMUL_CUDA_RUNTIME_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "tests/emul/emul.h"

#define CUDART_VERSION 13000

/* ---- the language */

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(...)
#define __grid_constant__

struct uint3 {
	unsigned x, y, z;
};

struct dim3 {
	unsigned x, y, z;
	constexpr dim3(unsigned vx = 1, unsigned vy = 1, unsigned vz = 1) : x(vx), y(vy), z(vz)
	{
	}
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

static inline void
__syncthreads(void)
{
	emul_barrier();
}

static inline float
__uint_as_float(uint32_t bits)
{
	float x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

static inline float
rsqrtf(float x)
{
	return 1.0f / sqrtf(x);
}

struct emul_shuffle {
	uint32_t in, out;
	int distance;
};

/* Of 32 bits. */
template <typename T>
static inline T
__shfl_xor_sync(uint32_t mask, T x, int distance)
{
	emul_shuffle mine = {0, 0, distance};

	static_assert(sizeof(T) == sizeof(mine.in), "");
	memcpy(&mine.in, &x, sizeof(x));
	emul_warp("__shfl_xor_sync", mask, &mine, [](void *lanes[32]) {
		for (int i = 0; i < 32; i++) {
			emul_shuffle *lane = (emul_shuffle *)lanes[i];
			lane->out = ((emul_shuffle *)lanes[i ^ lane->distance])->in;
		}
	});
	memcpy(&x, &mine.out, sizeof(x));
	return x;
}

/* ---- the runtime */

enum cudaError_t {
	cudaSuccess = 0,
	cudaErrorInvalidValue = 1,
	cudaErrorMemoryAllocation = 2,
	cudaErrorInvalidConfiguration = 9,
	cudaErrorInsufficientDriver = 35,
	cudaErrorNoDevice = 100,
	cudaErrorInvalidDevice = 101,
	cudaErrorIllegalAddress = 700,
	cudaErrorLaunchOutOfResources = 701,
	cudaErrorStreamCaptureUnsupported = 900,
};

enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum {
	cudaStreamNonBlocking = 1,
	cudaEventBlockingSync = 1,
	cudaEventDisableTiming = 2,
	cudaDeviceScheduleBlockingSync = 4
};
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal };
enum cudaDriverEntryPointQueryResult { cudaDriverEntryPointSuccess, cudaDriverEntryPointSymbolNotFound };
enum { cudaEnableDefault = 0 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

struct cudaUUID_t {
	char bytes[16];
};

struct cudaDeviceProp {
	char name[256];
	cudaUUID_t uuid;
	size_t totalGlobalMem;
	int major, minor, multiProcessorCount, l2CacheSize;
};

struct cudaFuncAttributes {
	int ptxVersion; /* that its code was made from: 10 * the architecture's */
};

typedef struct emul_stream *cudaStream_t;
typedef struct emul_event *cudaEvent_t;
typedef struct emul_graph *cudaGraph_t;
typedef struct emul_graph *cudaGraphExec_t;

struct cudaLaunchConfig_t {
	dim3 gridDim, blockDim;
	size_t dynamicSmemBytes;
	cudaStream_t stream;
	void *attrs;
	unsigned numAttrs;
};

const char *cudaGetErrorName(cudaError_t error);
const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError(void);
cudaError_t cudaPeekAtLastError(void);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaSetDeviceFlags(unsigned flags);
cudaError_t cudaMalloc(void **memory, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaMemGetInfo(size_t *available, size_t *total);
cudaError_t cudaMallocHost(void **memory, size_t bytes);
cudaError_t cudaFreeHost(void *memory);
cudaError_t cudaMemcpyAsync(
    void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreate(cudaEvent_t *event);
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *a, const void *kernel);
cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version,
    unsigned long long flags, cudaDriverEntryPointQueryResult *result);
cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value);

/* The device's own clock: what its products have taken so far. Kernels and copies take no time. */
extern double emul_device_ms;
/* Puts `what` at the end of the stream. */
void emul_put(cudaStream_t stream, std::function<void()> what);
/* Whether a device would take this launch. */
cudaError_t emul_check_launch(const cudaLaunchConfig_t *config, const void *kernel);

template <typename... P, typename... A>
static inline cudaError_t
cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(P...), A... arguments)
{
	cudaError_t error = emul_check_launch(config, (const void *)kernel);
	emul_grid grid = {"a kernel", config->gridDim.x, config->gridDim.y, config->gridDim.z,
	    config->blockDim.x, config->dynamicSmemBytes};

	if (error == cudaSuccess)
		emul_put(config->stream, [=] { emul_run(grid, [&] { kernel(arguments...); }); });
	return error;
}

#endif
