/*
 * The CUDA runtime of the emulated device: memory of the host, and streams that do nothing until somebody
 * waits.
 */
#include "cuda_runtime.h"

#include <stdio.h>
#include <stdlib.h>

#include <deque>
#include <map>

#include "tests/emul/cuda.h"

enum {
	DEVICE_MEMORY = 1 << 30,
	DEFAULT_SHARED = 48 << 10,
	HOPPER_SHARED = 227 << 10, /* a block can ask for, */
	LEAST_SHARED = 99 << 10,   /* or on 8.6, 8.9 and 12.0; others have more */
	POISONED_BYTES = 1 << 20,
	GRAPH_BYTES = 3 << 20
};

enum { NO_GRAPHS, ONLY_CAPTURE, ALL_GRAPHS }; /* what EMUL_GRAPHS allows */

typedef std::deque<std::function<void()>> work;

struct emul_stream {
	work waiting;
	uint64_t done;	   /* pieces of work so far */
	emul_graph *graph; /* what comes goes there: it is being recorded */
};

struct emul_graph {
	work pieces;
};

struct emul_event {
	emul_stream *stream;
	uint64_t after; /* pieces of its work */
	double ms;	/* on the device's clock, when it came to pass */
};

double emul_device_ms;

static std::map<void *, size_t> pieces;		  /* of the device's memory, and their bytes */
static size_t taken;				  /* of it, by them and by graphs */
static std::map<const void *, int> shared_limits; /* of kernels that asked for more than the default */
static int current_major = 9;			  /* compute capability of the device that was set last */

static int
setting(const char *name, int otherwise)
{
	const char *value = getenv(name);

	return value != NULL ? atoi(value) : otherwise;
}

/* Of call EMUL_FAIL_CALL, counted from the opening of the device: EMUL_FAIL_ERROR. A sticky error is the
 * answer to every call from then on, being out of memory to that one. */
static cudaError_t
answer(void)
{
	static const int call = setting("EMUL_FAIL_CALL", 0), error = setting("EMUL_FAIL_ERROR", 0);
	static int calls;

	calls++;
	if (call == 0 || calls < call || (calls > call && error == cudaErrorMemoryAllocation))
		return cudaSuccess;
	return (cudaError_t)error;
}

/* ---- streams and events */

void
emul_put(cudaStream_t stream, std::function<void()> what)
{
	if (stream->graph != NULL)
		stream->graph->pieces.push_back(std::move(what));
	else
		stream->waiting.push_back(std::move(what));
}

static void
run_until(emul_stream *stream, uint64_t done)
{
	while (stream->done < done) {
		stream->waiting.front()();
		stream->waiting.pop_front();
		stream->done++;
	}
}

cudaError_t
cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
	*stream = new emul_stream();
	return answer();
}

cudaError_t
cudaStreamSynchronize(cudaStream_t stream)
{
	if (stream->graph != NULL)
		return cudaErrorStreamCaptureUnsupported;
	run_until(stream, stream->done + stream->waiting.size());
	return answer();
}

cudaError_t
cudaStreamDestroy(cudaStream_t stream)
{
	delete stream;
	return answer();
}

cudaError_t
cudaEventCreate(cudaEvent_t *event)
{
	return cudaEventCreateWithFlags(event, 0);
}

cudaError_t
cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
	*event = new emul_event();
	return answer();
}

cudaError_t
cudaEventDestroy(cudaEvent_t event)
{
	delete event;
	return answer();
}

cudaError_t
cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
	event->stream = stream;
	if (stream->graph == NULL)
		emul_put(stream, [event] { event->ms = emul_device_ms; });
	event->after = stream->done + stream->waiting.size();
	return answer();
}

cudaError_t
cudaEventSynchronize(cudaEvent_t event)
{
	if (event->stream != NULL && event->stream->graph != NULL)
		return cudaErrorStreamCaptureUnsupported;
	if (event->stream != NULL)
		run_until(event->stream, event->after);
	return answer();
}

/* What comes in `stream` waits for what was in the event's stream when that was recorded last. */
cudaError_t
cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
	emul_stream *other = event->stream;
	uint64_t after = event->after;

	if (other != NULL && other != stream)
		emul_put(stream, [=] { run_until(other, after); });
	return answer();
}

cudaError_t
cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end)
{
	*ms = (float)(end->ms - begin->ms);
	return answer();
}

/* ---- graphs */

cudaError_t
cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
	if (setting("EMUL_GRAPHS", ALL_GRAPHS) == NO_GRAPHS)
		return cudaErrorStreamCaptureUnsupported;
	stream->graph = new emul_graph();
	return answer();
}

cudaError_t
cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
	*graph = stream->graph;
	stream->graph = NULL;
	return answer();
}

cudaError_t
cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
	if (setting("EMUL_GRAPHS", ALL_GRAPHS) != ALL_GRAPHS)
		return cudaErrorStreamCaptureUnsupported;
	*exec = new emul_graph(*graph);
	taken += GRAPH_BYTES;
	return answer();
}

cudaError_t
cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
	for (const std::function<void()> &piece : exec->pieces)
		emul_put(stream, piece);
	return answer();
}

cudaError_t
cudaGraphDestroy(cudaGraph_t graph)
{
	delete graph;
	return answer();
}

cudaError_t
cudaGraphExecDestroy(cudaGraphExec_t exec)
{
	taken -= GRAPH_BYTES;
	delete exec;
	return answer();
}

/* ---- memory: new memory is NaN, at least at its beginning */

static size_t
all_memory(void)
{
	return (size_t)setting("EMUL_MEMORY", DEVICE_MEMORY >> 10) << 10;
}

cudaError_t
cudaMalloc(void **memory, size_t bytes)
{
	cudaError_t error = answer();

	if (error != cudaSuccess)
		return error;
	if (getenv("EMUL_MEMORY") != NULL && taken + bytes > all_memory())
		return cudaErrorMemoryAllocation;
	*memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
	memset(*memory, 0xff, bytes < POISONED_BYTES ? bytes : POISONED_BYTES);
	pieces[*memory] = bytes;
	taken += bytes;
	return cudaSuccess;
}

cudaError_t
cudaFree(void *memory)
{
	taken -= pieces[memory];
	pieces.erase(memory);
	free(memory);
	return answer();
}

bool
emul_is_device_memory(const void *from, size_t bytes)
{
	auto after = pieces.upper_bound((void *)from);
	size_t into;

	if (after == pieces.begin())
		return false;
	--after;
	into = (size_t)((const char *)from - (const char *)after->first);
	return into <= after->second && bytes <= after->second - into;
}

cudaError_t
cudaMemGetInfo(size_t *available, size_t *total)
{
	*total = all_memory();
	*available = *total > taken ? *total - taken : 0;
	return answer();
}

cudaError_t
cudaMallocHost(void **memory, size_t bytes)
{
	*memory = malloc(bytes);
	return answer();
}

cudaError_t
cudaFreeHost(void *memory)
{
	free(memory);
	return answer();
}

cudaError_t
cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
	if (stream->graph != NULL &&
	    kind != cudaMemcpyDeviceToDevice) /* it would be replayed with old bytes */
		return cudaErrorStreamCaptureUnsupported;
	emul_put(stream, [=] { memcpy(to, from, bytes); });
	return answer();
}

/* ---- the device */

cudaError_t
cudaDriverGetVersion(int *version)
{
	*version = setting("EMUL_DRIVER", CUDART_VERSION);
	return cudaSuccess;
}

cudaError_t
cudaGetDeviceCount(int *count)
{
	*count = setting("EMUL_DEVICES", 1);
	if (setting("EMUL_DRIVER", CUDART_VERSION) < CUDART_VERSION / 1000 * 1000)
		return cudaErrorInsufficientDriver;
	return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t
cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
	*p = {};
	snprintf(p->name, sizeof(p->name), "emulated device");
	for (int i = 0; i < 16; i++)
		p->uuid.bytes[i] = (char)(i * 17);
	p->uuid.bytes[15] = (char)device;
	p->totalGlobalMem = all_memory();
	p->major = setting("EMUL_MAJOR", 9);
	p->multiProcessorCount = 2; /* few and little, so that small pictures take several turns and strips */
	p->l2CacheSize = setting("EMUL_CACHE", 1 << 20);
	return cudaSuccess;
}

cudaError_t
cudaSetDevice(int device)
{
	current_major = setting("EMUL_MAJOR", 9);
	return device < setting("EMUL_DEVICES", 1) ? answer() : cudaErrorInvalidDevice;
}

cudaError_t
cudaSetDeviceFlags(unsigned)
{
	return answer();
}

const char *
cudaGetErrorName(cudaError_t error)
{
	return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaErrorEmulated";
}

const char *
cudaGetErrorString(cudaError_t)
{
	return "as the test wants it";
}

cudaError_t
cudaGetLastError(void)
{
	return cudaSuccess;
}

cudaError_t
cudaPeekAtLastError(void)
{
	return cudaSuccess;
}

/* ---- launches */

/* The build has code for 8.0 and for 9.0, and a device takes the newest that it can run. */
cudaError_t
cudaFuncGetAttributes(cudaFuncAttributes *a, const void *)
{
	*a = {};
	a->ptxVersion = setting("EMUL_MAJOR", 9) == 9 ? 90 : 80;
	return answer();
}

cudaError_t
cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned, unsigned long long,
    cudaDriverEntryPointQueryResult *result)
{
	bool known = strcmp(symbol, "cuTensorMapEncodeTiled") == 0;

	*function = known ? (void *)cuTensorMapEncodeTiled : NULL;
	*result = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
	return answer();
}

/* CUDA's programming guide, "Technical Specifications per Compute Capability". */
cudaError_t
cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute, int value)
{
	if (value > (current_major == 9 ? HOPPER_SHARED : LEAST_SHARED))
		return cudaErrorInvalidValue;
	shared_limits[kernel] = value;
	return answer();
}

cudaError_t
emul_check_launch(const cudaLaunchConfig_t *config, const void *kernel)
{
	size_t limit = DEFAULT_SHARED;

	if (shared_limits.count(kernel) > 0)
		limit = (size_t)shared_limits[kernel];
	if (config->blockDim.x == 0 || config->blockDim.x > 1024 || config->gridDim.x == 0 ||
	    config->gridDim.x > 0x7fffffff || config->gridDim.y > 65535 || config->gridDim.z > 65535)
		return cudaErrorInvalidConfiguration;
	if (config->dynamicSmemBytes > limit)
		return cudaErrorLaunchOutOfResources;
	return answer();
}
