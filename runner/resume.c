/*
 * Checkpoints of pictures in the making: two halves of shared memory, written in turn, each with its
 * checksum.
 */
#include "runner/resume.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/shm.h"
#include "ipc/sha256.h"

enum { MAGIC = 0x31434b5a, VERSION = 2, ALIGN = 4096, LANES = 4 };

/* What stands before the latent in each half. */
struct half {
	uint32_t magic, version;
	uint64_t checksum; /* of what follows in here, then of the latent */
	uint64_t step;
	uint64_t count; /* floats */
	uint8_t identity[RESUME_IDENTITY];
};

struct resume {
	uint8_t *memory;
	size_t bytes, half_bytes;
	uint8_t identity[RESUME_IDENTITY];
	int next; /* the half to be written next */
};

static size_t
half_bytes(size_t count)
{
	size_t bytes = sizeof(struct half) + count * sizeof(float);

	return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

uint64_t
resume_bytes(size_t count)
{
	return 2 * (uint64_t)half_bytes(count);
}

struct resume *
resume_open(int fd)
{
	struct resume *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->memory = shm_attach_checkpoint(fd, &r->bytes);
	if (r->memory == NULL) {
		free(r);
		return NULL;
	}
	close(fd);
	r->half_bytes = r->bytes / 2 / ALIGN * ALIGN;
	return r;
}

void
resume_close(struct resume **r)
{
	if (*r == NULL)
		return;
	shm_detach_checkpoint((void **)&(*r)->memory, (*r)->bytes);
	free(*r);
	*r = NULL;
}

void
resume_begin(struct resume *r, const struct resume_picture *p)
{
	char numbers[160];
	struct sha256 hash;
	int length = snprintf(numbers, sizeof(numbers), "%llu %d %d %d %d", (unsigned long long)p->seed,
	    p->width, p->height, p->steps, p->truncate);

	sha256_init(&hash);
	sha256_feed(&hash, numbers, (size_t)length + 1);
	sha256_feed(&hash, p->model_hash, strlen(p->model_hash) + 1);
	sha256_feed(&hash, p->device, strlen(p->device) + 1);
	sha256_feed(&hash, p->prompt, strlen(p->prompt) + 1);
	sha256_end(&hash, r->identity);
	r->next = 0;
}

/* FNV-1a's step, on words instead of bytes: another word is another sum, whatever the words after it are. */
static uint64_t
mix(uint64_t sum, const uint8_t *word)
{
	uint64_t w;

	memcpy(&w, word, sizeof(w));
	return (sum ^ w) * UINT64_C(0x100000001b3);
}

/* The device waits for it at every step, so words go to several sums in turn: a product takes four cycles,
 * and another can begin in each of them. */
static uint64_t
mix_all(uint64_t sum, const void *bytes, size_t size)
{
	const uint8_t *at = bytes, *end = at + size;
	uint64_t lanes[LANES] = {sum, 1, 2, 3}, rest = 0;

	for (; end - at >= (ptrdiff_t)sizeof(lanes); at += sizeof(lanes))
		for (int i = 0; i < LANES; i++)
			lanes[i] = mix(lanes[i], at + i * sizeof(lanes[i]));
	for (; end - at >= (ptrdiff_t)sizeof(rest); at += sizeof(rest))
		lanes[0] = mix(lanes[0], at);
	memcpy(&rest, at, (size_t)(end - at));
	sum = mix(lanes[0], (const uint8_t *)&rest);
	for (int i = 1; i < LANES; i++)
		sum = mix(sum, (const uint8_t *)&lanes[i]);
	return sum;
}

static uint64_t
checksum(const struct half *head, const float *latent)
{
	uint64_t sum = UINT64_C(0xcbf29ce484222325);

	sum = mix_all(sum, &head->step, sizeof(*head) - offsetof(struct half, step));
	return mix_all(sum, latent, head->count * sizeof(float));
}

/* The step of a half, its latent then in `latent`, or 0. What is read was copied first: a process that
 * outlived its zitd may still write there. */
static int
load_half(const struct resume *r, int index, float *latent, size_t count)
{
	const uint8_t *from = r->memory + (size_t)index * r->half_bytes;
	struct half head;

	if (half_bytes(count) > r->half_bytes)
		return 0;
	memcpy(&head, from, sizeof(head));
	if (head.magic != MAGIC || head.version != VERSION || head.count != count || head.step > INT32_MAX ||
	    memcmp(head.identity, r->identity, sizeof(head.identity)) != 0)
		return 0;
	memcpy(latent, from + sizeof(head), count * sizeof(float));
	return checksum(&head, latent) == head.checksum ? (int)head.step : 0;
}

int
resume_load(struct resume *r, float *latent, size_t count)
{
	float *other = malloc(count * sizeof(float));
	int best = 0;

	if (other == NULL)
		return 0;
	for (int i = 0; i < 2; i++) {
		int step = load_half(r, i, other, count);
		if (step <= best)
			continue;
		best = step;
		r->next = 1 - i;
		memcpy(latent, other, count * sizeof(float));
	}
	free(other);
	return best;
}

void
resume_save(struct resume *r, int step, const float *latent, size_t count)
{
	uint8_t *to = r->memory + (size_t)r->next * r->half_bytes;
	struct half head = {MAGIC, VERSION, 0, (uint64_t)step, count, {0}};

	if (half_bytes(count) > r->half_bytes)
		return;
	memcpy(head.identity, r->identity, sizeof(head.identity));
	head.checksum = checksum(&head, latent);
	memcpy(to + sizeof(head), latent, count * sizeof(float));
	memcpy(to, &head, sizeof(head));
	r->next = 1 - r->next;
}
