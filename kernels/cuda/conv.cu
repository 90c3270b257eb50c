/*
 * conv2d on CUDA: windows of the picture as rows of a matrix (im2col), strip after strip, each multiplied
 * with the weights. A strip is as long as half of the scratch, 32 MiB, so the product finds it in the
 * second-level cache of an H100 (50 MiB); an implicit product would save the way there and back. Where the
 * picture is normed first, so are the rows that one strip sees, into the other half.
 *
 * A 1x1 convolution is a product as it is, unless its result takes its picture's place. A 3x3 one behind a
 * doubling by nearest neighbour is four 2x2 ones on the small picture, exactly, with 16 taps for 36: output
 * pixel (2i + a, 2j + b) sees the small picture's rows i - 1 + a and i + a, and its columns alike; the 3x3
 * kernel's rows 0 | 1, 2 fall on them for a = 0, and 0, 1 | 2 for a = 1.
 *
 * Channels are innermost everywhere, so a window is `taps` runs of Cin numbers.
 */
#include "kernels/cuda/gemm.cuh"

enum {
	THREADS = 256,
	TILE = 128,
	STRIP_BYTES = SCRATCH_BYTES / 2,
	NORMED_BYTES = SCRATCH_BYTES - STRIP_BYTES - FACTORS_BYTES
};

/* What the rows of the matrix are windows of. */
struct window {
	int h, w, channels; /* of the picture */
	int k, stride;
	int top, left; /* rows above and columns left of the picture that the first window begins with */
	int out_w;     /* windows in a row of the output */
};

/* What cuda_conv2d was asked for, or some rows of it. */
struct convolution {
	struct tensor y, x, add; /* add.data may be NULL */
	const struct weight *w;
	const void *bias; /* in the activations' type, or NULL */
	struct window window;
};

/* rows (count, k k channels) := the windows of `count` output pixels from (row, column) on, zero outside of
 * the picture. W numbers of one tap to a thread. A strip has less than 2^31 numbers: 32-bit divisions are
 * enough, and a fifth of the price of wider ones. */
template <typename T, int W>
__global__ static void
windows_kernel(T *rows, const T *x, struct window g, unsigned row, unsigned column, unsigned count)
{
	unsigned i = blockIdx.x * blockDim.x + threadIdx.x, runs = g.channels / W, taps = g.k * g.k;
	unsigned c = i % runs * W, tap = i / runs % taps, r = i / runs / taps, pixel = column + r;
	int y = (int)(row + pixel / g.out_w) * g.stride - g.top + (int)tap / g.k;
	int at = (int)(pixel % g.out_w) * g.stride - g.left + (int)tap % g.k;
	numbers<T, W> v = {};

	if (r >= count)
		return;
	if (y >= 0 && y < g.h && at >= 0 && at < g.w)
		v = *(const numbers<T, W> *)(x + ((int64_t)y * g.w + at) * g.channels + c);
	*(numbers<T, W> *)(rows + (int64_t)i * W) = v;
}

static void
make_windows(
    struct cuda_device *c, const struct tensor *x, const struct window *g, int64_t first, int64_t count)
{
	bool wide = is_wide(x->data, g->channels, dtype_size(x->type));
	int64_t all = count * g->k * g->k * g->channels;

	WITH_TYPE(x->type, T, {
		launch(c, "conv2d: windows", blocks_for(all / (wide ? full_width<T>() : 1), THREADS), THREADS,
		    wide ? windows_kernel<T, full_width<T>()> : windows_kernel<T, 1>, (T *)c->scratch,
		    (const T *)x->data, *g, first / g->out_w, first % g->out_w, count);
	});
}

/* The common part: y (.., N) := windows filters^T + bias. */
static struct gemm
conv_gemm(const struct convolution *v, const void *filters, int64_t k)
{
	struct gemm g = {};

	g.n = v->w->dim[0];
	g.k = g.lda = g.ldb = k;
	g.ldy = g.n;
	g.b = filters;
	g.bias = v->bias;
	g.y_type = v->y.type;
	g.alpha = 1.0f;
	g.batch = 1;
	return g;
}

/* The result begins at number `at` of y. */
static void
aim_gemm(const struct convolution *v, struct gemm *g, int64_t at)
{
	size_t bytes = (size_t)at * dtype_size(v->y.type);

	g->y = (char *)v->y.data + bytes;
	g->add = v->add.data != NULL ? (const char *)v->add.data + bytes : NULL;
}

/* ---- as it is */

/* Whole tiles of the product; 0: a window is too large. */
static int64_t
strip_pixels(const struct window *g, size_t size)
{
	return STRIP_BYTES / ((int64_t)g->k * g->k * g->channels * (int64_t)size) / TILE * TILE;
}

static void
convolve(struct cuda_device *c, const struct convolution *v)
{
	const struct window *window = &v->window;
	size_t size = dtype_size(v->x.type);
	int64_t k = (int64_t)window->k * window->k * window->channels, pixels = v->y.dim[0] * v->y.dim[1];
	int64_t strip = strip_pixels(window, size);
	bool plain = window->k == 1 && window->stride == 1 && window->top == 0 && window->left == 0 &&
		     v->y.data != v->x.data;
	struct gemm g = conv_gemm(v, v->w->data, k);

	strip = plain ? pixels : strip;
	for (int64_t first = 0; first < pixels; first += strip) {
		g.m = pixels - first < strip ? pixels - first : strip;
		if (!plain)
			make_windows(c, &v->x, window, first, g.m);
		g.a = plain ? v->x.data : c->scratch;
		aim_gemm(v, &g, first * g.n);
		cuda_gemm(c, &g);
	}
}

/* ---- of a normed picture */

/* Rows of y at a time: as many as one strip holds, if what they see finds room where it is normed; all strips
 * but the last are equally long, which asks for one choice of algorithm. */
static int64_t
normed_rows(const struct window *g, size_t size)
{
	int64_t pixel = (int64_t)g->channels * (int64_t)size;
	int64_t most = (NORMED_BYTES / (g->w * pixel) - g->k) / g->stride + 1;
	int64_t rows = STRIP_BYTES / (g->out_w * g->k * g->k * pixel);

	rows = rows > 1 ? rows : 1;
	return rows < most ? rows : most;
}

/* Rows [row, row + count) of y: what they see of x is normed, and is then the picture. */
static void
convolve_normed_rows(struct cuda_device *c, const struct convolution *all, const struct group_norm *norm,
    const float *factors, int64_t row, int64_t count)
{
	struct convolution v = *all;
	int64_t first = row * v.window.stride - v.window.top;
	int64_t end = first + (count - 1) * v.window.stride + v.window.k, begin = first > 0 ? first : 0;
	struct tensor seen = tensor_rows(&all->x, begin, (end < v.window.h ? end : v.window.h) - begin);

	v.x = seen;
	v.x.data = (char *)c->scratch + STRIP_BYTES + FACTORS_BYTES;
	v.y = tensor_rows(&all->y, row, count);
	if (v.add.data != NULL)
		v.add = tensor_rows(&all->add, row, count);
	v.window.h = (int)seen.dim[0];
	v.window.top = (int)(begin - first);
	cuda_group_apply(c, &v.x, &seen, factors, norm);
	convolve(c, &v);
}

static void
convolve_normed(struct cuda_device *c, const struct convolution *v, const struct group_norm *norm)
{
	const float *factors = cuda_group_factors(c, (char *)c->scratch + STRIP_BYTES, &v->x, norm);
	int64_t rows = normed_rows(&v->window, dtype_size(v->x.type)), h = v->y.dim[0];

	for (int64_t row = 0; row < h && factors != NULL; row += rows)
		convolve_normed_rows(c, v, norm, factors, row, h - row < rows ? h - row : rows);
}

/* ---- behind a doubling */

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
static const void *
folded_weights(struct cuda_device *c, struct weight *w)
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

/* One of the four: windows of whole rows of the small picture, and a product for each row, whose results are
 * every other pixel of every other row. */
static void
convolve_phase(struct cuda_device *c, const struct convolution *v, struct gemm *g, int phase)
{
	int a = phase / 2, b = phase % 2;
	int64_t h = v->window.h, w = v->window.w, n = g->n;
	struct window window = {
	    v->window.h, v->window.w, v->window.channels, 2, 1, 1 - a, 1 - b, v->window.w};
	int64_t most = STRIP_BYTES / (w * g->k * (int64_t)dtype_size(v->x.type));

	g->m = w;
	g->ldy = 2 * n;
	g->stride_a = w * g->k;
	g->stride_y = 4 * w * n;
	g->a = c->scratch;
	for (int64_t first = 0; first < h; first += most) {
		g->batch = (int)(h - first < most ? h - first : most);
		make_windows(c, &v->x, &window, first * w, g->batch * w);
		aim_gemm(v, g, ((2 * first + a) * 2 * w + b) * n);
		cuda_gemm(c, g);
	}
}

static void
convolve_doubled(struct cuda_device *c, const struct convolution *v)
{
	struct weight *w = (struct weight *)v->w;
	const char *folded = (const char *)folded_weights(c, w);
	size_t phase_bytes = (size_t)(4 * w->dim[0] * w->dim[1]) * dtype_size(w->type);

	for (int phase = 0; phase < 4 && folded != NULL; phase++) {
		struct gemm g = conv_gemm(v, folded + (size_t)phase * phase_bytes, 4 * w->dim[1]);
		convolve_phase(c, v, &g, phase);
	}
}

/* Whether the scratch has room for a tile of windows, for what a row sees where it is normed, and behind a
 * doubling for a row of windows. */
static bool
is_possible(const struct window *g, size_t size, const struct conv_shape *shape)
{
	int64_t row = (int64_t)g->w * g->channels * (int64_t)size;

	if (shape->upsample2)
		return shape->norm == NULL && g->k == 3 && g->stride == 1 && g->top == 1 &&
		       row * 4 <= STRIP_BYTES;
	return strip_pixels(g, size) > 0 && (shape->norm == NULL || row * g->k <= NORMED_BYTES);
}

void
cuda_conv2d(struct device *d, struct tensor *y, const struct tensor *x, const struct weight *w,
    const struct tensor *bias, const struct tensor *add, const struct conv_shape *shape)
{
	struct cuda_device *c = (struct cuda_device *)d;
	int k = w->rank == 4 ? (int)w->dim[2] : 1;
	struct window window = {(int)x->dim[0], (int)x->dim[1], (int)x->dim[2], k, shape->stride,
	    shape->pad_before, shape->pad_before, (int)y->dim[1]};
	struct convolution v = {*y, *x, {}, w, cuda_bias(c, bias), window};

	if (cuda_failed(c))
		return;
	if (!is_possible(&window, dtype_size(x->type), shape)) {
		device_fail(d, DEVICE_INTERNAL, "conv2d: %dx%d of %d channels, kernel %d", window.h, window.w,
		    window.channels, k);
		return;
	}
	if (add != NULL)
		v.add = *add;
	if (shape->norm != NULL)
		convolve_normed(c, &v, shape->norm);
	else if (shape->upsample2)
		convolve_doubled(c, &v);
	else
		convolve(c, &v);
}
