/*
 * A loaded model: opening a checkpoint on a device, its limits, and what of it goes where.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runner/checkpoint.h"
#include "runner/fault.h"
#include "runner/model_inside.h"
#include "ipc/sha256.h"

/* ---- loading */

enum { PARTS = 3 };

static const struct {
	const char *dir, *stem;
} parts[PARTS] = {{"text_encoder", "model"}, {"transformer", "diffusion_pytorch_model"},
    {"vae", "diffusion_pytorch_model"}};

static int
load_part(struct model *m, int part)
{
	struct loader *l = &m->loader;

	if (part == 0)
		m->text_encoder = text_encoder_load(l, &m->config.text, m->limits.text_streamed);
	else if (part == 1)
		m->dit = dit_load(l, &m->config.transformer);
	else
		m->vae = vae_load(l, &m->config.vae);
	return l->status;
}

static void
feed_identity(void *arg, const void *bytes, size_t count)
{
	sha256_feed(arg, bytes, count);
}

/* As many digits of the digest as the limits have room for. */
static void
put_hash(struct model_limits *l, struct sha256 *identity)
{
	uint8_t digest[SHA256_BYTES];

	sha256_end(identity, digest);
	for (size_t i = 0; i < sizeof(l->hash) / 2; i++)
		snprintf(l->hash + 2 * i, 3, "%02x", digest[i]);
}

/* Loads all three networks. */
static int
load_networks(struct model *m, struct checkpoint *files[PARTS], struct err *e)
{
	struct loader *l = &m->loader;
	struct sha256 identity;

	sha256_init(&identity);
	for (int i = 0; i < PARTS; i++) {
		checkpoint_identity(files[i], feed_identity, &identity);
		l->total_bytes += checkpoint_bytes(files[i]);
	}
	l->identity = &identity;
	for (int i = 0; i < PARTS; i++) {
		l->checkpoint = files[i];
		if (load_part(m, i) != 0)
			return l->status;
	}
	l->identity = NULL;
	put_hash(&m->limits, &identity);
	if (l->progress != NULL) /* what is left are tensors that nobody needs */
		l->progress(l->progress_arg, l->total_bytes, l->total_bytes);
	return fault_check(m->device, e);
}

/* ---- limits */

static void
set_limits(struct model *m, const char *dir, int64_t max_pixels)
{
	const struct transformer_config *t = &m->config.transformer;
	struct model_limits *l = &m->limits;
	char copy[PATH_MAX];
	int axis = t->axes_lens[1] < t->axes_lens[2] ? t->axes_lens[1] : t->axes_lens[2];
	size_t end = (size_t)snprintf(copy, sizeof(copy), "%s", dir);

	while (end > 1 && end < sizeof(copy) && copy[end - 1] == '/')
		copy[--end] = '\0';
	snprintf(
	    l->name, sizeof(l->name), "%.60s", strrchr(copy, '/') != NULL ? strrchr(copy, '/') + 1 : copy);
	l->granule = m->config.vae.scale * t->patch;
	l->default_side = m->config.vae.sample_size / l->granule * l->granule;
	l->max_side = axis * l->granule;
	l->max_pixels = max_pixels > 0 ? max_pixels : (int64_t)l->default_side * l->default_side;
	if (l->max_pixels > (int64_t)l->max_side * l->max_side)
		l->max_pixels = (int64_t)l->max_side * l->max_side;
	l->latent_count = (size_t)t->in_channels * (size_t)l->max_pixels /
			  (size_t)(m->config.vae.scale * m->config.vae.scale);
	l->max_tokens = MAX_PROMPT_TOKENS;
	l->shift = m->config.shift;
}

/* ---- what goes where */

/* Of what is needed, what a device's allocator rounds up to and recorded steps take may be besides: pieces
 * are whole 2 MiB there, by arithmetic 170 MiB in the 6B model. */
enum { HEADROOM = 32 };

/* One way to have the model on its device. */
struct placement {
	bool streamed;	       /* the text encoder's matrices */
	int thrift;	       /* of the decoder */
	uint64_t weights, all; /* bytes of device memory */
	bool fits;
};

static unsigned long long
mib(uint64_t bytes)
{
	return (unsigned long long)(bytes >> 20);
}

static void
free_networks(struct model *m)
{
	text_encoder_free(&m->text_encoder);
	dit_free(&m->dit);
	vae_free(&m->vae);
}

/* Loads and runs without memory, with as little thrift as fits. */
static int
plan_model(const struct model *m, struct checkpoint *files[PARTS], uint64_t available, struct placement *p,
    struct err *e)
{
	struct model planned = {.config = m->config, .limits = m->limits, .device = m->device, .ops = m->ops};
	struct model_limits *l = &planned.limits;
	int status = 0;

	l->text_streamed = p->streamed;
	planned.loader = (struct loader){.device = m->device, .ops = m->ops, .e = e, .plans = true};
	for (int i = 0; i < PARTS && status == 0; i++) {
		planned.loader.checkpoint = files[i];
		status = load_part(&planned, i);
	}
	p->weights = loader_planned(&planned.loader);
	for (l->thrift = 0; status == 0 && !p->fits && l->thrift <= vae_max_thrift(planned.vae);
	     l->thrift++) {
		model_plan_memory(&planned);
		p->thrift = l->thrift;
		p->all = p->weights + l->memory_bytes;
		p->fits = p->all + p->all / HEADROOM <= available;
	}
	free_networks(&planned);
	return status;
}

/* By arithmetic, before anything is on the device. The decoder is thrifty before the text encoder is
 * streamed: that costs time only with the largest pictures. What cannot fit is refused with what would. */
static int
place_model(struct model *m, struct checkpoint *files[PARTS], enum text_weights wanted, struct err *e)
{
	uint64_t bytes = device_free_bytes(m->device), available = bytes > 0 ? bytes : UINT64_MAX;
	struct placement resident = {.streamed = false}, streamed = {.streamed = true}, *chosen = &resident;
	int status = plan_model(m, files, available, &resident, e);

	if (status == 0)
		status = plan_model(m, files, available, &streamed, e);
	if (status != 0)
		return status;
	if (wanted == TEXT_STREAMED || (wanted == TEXT_AUTO && !resident.fits))
		chosen = &streamed;
	m->limits.text_streamed = chosen->streamed;
	m->limits.thrift = chosen->thrift;
	m->limits.weight_bytes = chosen->weights;
	if (wanted == TEXT_RESIDENT && resident.all > available)
		return err_set(e, ERR_OUT_OF_MEMORY,
		    "%llu MiB of device memory are needed and %llu are free; with text_encoder = streamed "
		    "%llu are needed",
		    mib(resident.all), mib(available), mib(streamed.all));
	if (chosen->weights > available)
		return err_set(e, ERR_OUT_OF_MEMORY,
		    "%llu MiB of device memory are needed for the weights alone, with text_encoder = "
		    "streamed, and "
		    "%llu are free: free some memory, or take a larger device",
		    mib(chosen->weights), mib(available));
	return 0;
}

static int
open_networks(struct model *m, const char *dir, enum text_weights wanted, struct err *e)
{
	struct checkpoint *files[PARTS] = {NULL};
	char path[PATH_MAX];
	int status = 0;

	for (int i = 0; i < PARTS && status == 0; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, parts[i].dir);
		status = checkpoint_open(&files[i], path, parts[i].stem, e);
	}
	if (status == 0)
		status = place_model(m, files, wanted, e);
	if (status == 0)
		status = load_networks(m, files, e);
	if (m->limits.text_streamed) { /* it is read for each prompt */
		m->text_files = files[0];
		files[0] = NULL;
	}
	for (int i = 0; i < PARTS; i++)
		checkpoint_close(&files[i]);
	return status;
}

/* ---- opening */

static int
open_tokenizer(struct model *m, const char *dir, struct err *e)
{
	char path[PATH_MAX];
	int status;

	snprintf(path, sizeof(path), "%s/tokenizer", dir);
	status = tokenizer_open(&m->tokenizer, path, e);
	if (status != 0)
		return status;
	if (tokenizer_vocab(m->tokenizer) > (size_t)m->config.text.vocab)
		return err_set(e, ERR_BAD_CHECKPOINT,
		    "%s/tokenizer.json: gives ids up to %zu, the text encoder knows %d", path,
		    tokenizer_vocab(m->tokenizer) - 1, m->config.text.vocab);
	return 0;
}

int
model_open(struct model **out, const char *dir, struct device *device, const struct model_options *options,
    struct err *e)
{
	struct model *m = calloc(1, sizeof(*m));
	struct err local;
	int status;

	e = e != NULL ? e : &local;
	if (m == NULL)
		return err_set(e, ERR_OUT_OF_MEMORY, "out of memory");
	m->device = device;
	m->ops = device_ops(device);
	m->loader = (struct loader){.device = device,
	    .ops = m->ops,
	    .e = e,
	    .progress = options->progress,
	    .progress_arg = options->progress_arg};
	status = model_config_read(&m->config, dir, e);
	if (status == 0) {
		set_limits(m, dir, options->max_pixels);
		status = open_tokenizer(m, dir, e);
	}
	if (status == 0)
		status = open_networks(m, dir, options->text_weights, e);
	if (status == 0)
		status = model_reserve_memory(m, e);
	if (status != 0)
		model_close(&m);
	else
		*out = m;
	return status;
}

void
model_close(struct model **out)
{
	struct model *m = *out;

	if (m == NULL)
		return;
	model_release_memory(m);
	free_networks(m);
	checkpoint_close(&m->text_files);
	for (int i = 0; i < m->loader.chunk_count; i++)
		m->ops->release(m->device, m->loader.chunks[i]);
	tokenizer_close(&m->tokenizer);
	free(m);
	*out = NULL;
}

const struct model_limits *
model_limits(const struct model *m)
{
	return &m->limits;
}

void
model_trace(struct model *m, const struct trace *trace)
{
	m->trace = trace;
}
