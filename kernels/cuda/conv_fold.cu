/*
 * Filters of a 3x3 convolution behind a doubling by nearest neighbour, folded: it is four 2x2 ones on the
 * small picture, exactly, with 16 taps for 36. Output pixel (2i + a, 2j + b) sees the small picture's rows
 * i - 1 + a and i + a, and its columns alike; the 3x3 kernel's rows 0 | 1, 2 fall on them for a = 0, and
 * 0, 1 | 2 for a = 1.
 */
#include "kernels/cuda/conv.cuh"

enum { THREADS = 256 };

/* folded (4, Cout, 2, 2, Cin) of w (Cout, 3, 3, Cin): number i to a thread. */
template <typename T>
__global__ static void
fold_kernel(T *folded, const T *w, int64_t count, int outputs, int channels)
{
	int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
	int c = (int)(i % channels), dx = (int)(i / channels % 2), dy = (int)(i / channels / 2 % 2);
	int64_t rest = i / channels / 4;
	int output = (int)(rest % outputs), phase = (int)(rest / outputs), a = phase / 2, b = phase % 2;
	float sum = 0;

	if (i >= count)
		return;
	for (int row = dy == 0 ? 0 : 1 + a; row <= (dy == 0 ? a : 2); row++) {
		for (int column = dx == 0 ? 0 : 1 + b; column <= (dx == 0 ? b : 2); column++)
			sum += to_float(w[((output * 3 + row) * 3 + column) * (int64_t)channels + c]);
	}
	folded[i] = from_float<T>(sum);
}

/* Made once, at the first picture, which is drawn before the runner is READY. */
const void *
cuda_folded_filters(struct cuda_device *c, struct weight *w)
{
	int64_t count = 16 * w->dim[0] * w->dim[1];

	if (w->folded == NULL) {
		w->folded = cuda_allocate(c, (size_t)count * dtype_size(w->type));
		if (w->folded == NULL) {
			device_fail(&c->base, DEVICE_OUT_OF_MEMORY, "cuda:%d: no memory for folded weights",
			    c->index);
			return NULL;
		}
		WITH_TYPE(w->type, T, {
			launch(c, "conv2d: folding", blocks_for(count, THREADS), THREADS, fold_kernel<T>,
			    (T *)w->folded, (const T *)w->data, count, w->dim[0], w->dim[1]);
		});
	}
	return w->folded;
}
