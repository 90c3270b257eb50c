/*
 * Sequences of operations that come again, as CUDA graphs: one launch for the some 400 of a step. The first
 * time a sequence is run as it comes, so that products choose their algorithms and weights get their folded
 * forms; the second time it is recorded; from the third on it is replayed.
 *
 * A graph is an economy, never a condition: where the driver does not take one, sequences are run as they
 * come.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda.cuh"

enum { MAX_RECORDINGS = 16 };

struct recording {
	struct recording_key key;
	uint64_t used;	      /* when; 0: this place is free */
	cudaGraphExec_t exec; /* NULL: it was seen once */
};

struct recordings {
	struct recording at[MAX_RECORDINGS];
	struct recording *open; /* what is being recorded now */
	uint64_t uses;
	bool off; /* the driver does not take them */
};

/* What is known under the key, or the place of what was used least lately, emptied for it. */
static struct recording *
find_recording(struct recordings *r, const struct recording_key *key)
{
	struct recording *oldest = &r->at[0];

	for (int i = 0; i < MAX_RECORDINGS; i++) {
		if (r->at[i].used > 0 && memcmp(&r->at[i].key, key, sizeof(*key)) == 0)
			return &r->at[i];
		oldest = r->at[i].used < oldest->used ? &r->at[i] : oldest;
	}
	if (oldest->exec != NULL)
		cudaGraphExecDestroy(oldest->exec);
	*oldest = {};
	oldest->key = *key;
	return oldest;
}

/* Takes back an error of the graph functions, which is nobody's failure. */
static void
give_up(struct recordings *r)
{
	cudaGetLastError();
	r->off = true;
}

bool
cuda_replay(struct device *d, const struct recording_key *key)
{
	struct cuda_device *c = (struct cuda_device *)d;
	struct recordings *r = c->recordings;
	struct recording *found;
	bool seen;

	if (r->off || cuda_failed(c))
		return false;
	found = find_recording(r, key);
	seen = found->used > 0;
	found->used = ++r->uses;
	if (found->exec != NULL)
		return cuda_check(c, cudaGraphLaunch(found->exec, c->stream), "a recorded step");
	if (!seen)
		return false;
	if (cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess)
		r->open = found;
	else
		give_up(r);
	return false;
}

bool
cuda_recorded(struct device *d)
{
	struct cuda_device *c = (struct cuda_device *)d;
	struct recordings *r = c->recordings;
	struct recording *open = r->open;
	cudaGraph_t graph = NULL;

	r->open = NULL;
	if (open == NULL || cuda_failed(c))
		return true; /* it was run as it came */
	if (cudaStreamEndCapture(c->stream, &graph) == cudaSuccess &&
	    cudaGraphInstantiate(&open->exec, graph, 0) == cudaSuccess) {
		cudaGraphDestroy(graph);
		return cuda_check(c, cudaGraphLaunch(open->exec, c->stream), "a recorded step");
	}
	if (graph != NULL)
		cudaGraphDestroy(graph);
	open->exec = NULL;
	give_up(r);
	return false;
}

bool
cuda_recordings_open(struct cuda_device *c)
{
	c->recordings = (struct recordings *)calloc(1, sizeof(*c->recordings));
	if (c->recordings == NULL)
		device_fail(&c->base, DEVICE_OUT_OF_MEMORY, "out of memory");
	return c->recordings != NULL;
}

void
cuda_recordings_close(struct cuda_device *c)
{
	for (int i = 0; i < MAX_RECORDINGS && c->recordings != NULL && !cuda_failed(c); i++) {
		if (c->recordings->at[i].exec != NULL)
			cudaGraphExecDestroy(c->recordings->at[i].exec);
	}
	free(c->recordings);
	c->recordings = NULL;
}
