/*
 * The refined captions of the last prompts, on the device.
 */
#include "runner/caption_cache.h"

#include <assert.h>
#include <string.h>

#include "runner/model_inside.h"

static void
lay_out(const struct model *m, struct caption_cache *cache, struct arena *a)
{
	for (int i = 0; i < CAPTIONS; i++)
		cache->captions[i].rows = arena_matrix(
		    a, device_act_type(m->device), dit_padded(MAX_PROMPT_TOKENS), m->config.transformer.dim);
}

size_t
caption_cache_bytes(const struct model *m)
{
	struct caption_cache cache;
	struct arena plan;

	arena_plan(&plan);
	lay_out(m, &cache, &plan);
	return plan.peak;
}

void
caption_cache_use(struct model *m, void *memory)
{
	struct arena a;

	m->captions = (struct caption_cache){.memory = memory};
	arena_use(&a, memory, caption_cache_bytes(m));
	lay_out(m, &m->captions, &a);
}

bool
caption_cache_find(struct model *m, const int32_t *ids, int64_t tokens, struct tensor *refined)
{
	struct caption_cache *cache = &m->captions;

	for (int i = 0; i < CAPTIONS; i++) {
		struct caption *c = &cache->captions[i];
		struct tensor kept = tensor_rows(&c->rows, 0, dit_padded(tokens));
		if (c->tokens != tokens || memcmp(c->ids, ids, (size_t)tokens * sizeof(*ids)) != 0)
			continue;
		m->ops->copy(m->device, refined, &kept);
		c->last_use = ++cache->uses;
		return true;
	}
	return false;
}

void
caption_cache_keep(struct model *m, const int32_t *ids, int64_t tokens, const struct tensor *refined)
{
	struct caption_cache *cache = &m->captions;
	struct caption *oldest = &cache->captions[0];
	struct tensor kept;

	assert(tokens > 0 && tokens <= MAX_PROMPT_TOKENS);
	for (int i = 1; i < CAPTIONS; i++) {
		if (cache->captions[i].last_use < oldest->last_use)
			oldest = &cache->captions[i];
	}
	kept = tensor_rows(&oldest->rows, 0, dit_padded(tokens));
	m->ops->copy(m->device, &kept, refined);
	memcpy(oldest->ids, ids, (size_t)tokens * sizeof(*ids));
	oldest->tokens = tokens;
	oldest->last_use = ++cache->uses;
}
