/*
 * What became of a store's jobs, and what a store has of them now.
 */
#include "tests/unit/test.h"

#include "supervisor/store/store_inside.h"
#include "tests/unit/store_history.h"

/* The log is moved when it has so many: sooner than by store_tend, for there are few commits. */
enum { LOG_FRAMES = 100 };

uint32_t
history_random(struct history *h, uint32_t below)
{
	h->random = h->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(h->random >> 33) % below;
}

/* The next text of a job: one time in four it ends, one in twelve it goes. An ended job only goes. */
static char *
next_text(struct history *h, int job, const char *before)
{
	struct sample s = {.number = (uint64_t)job + 1, .revision = h->count + 1};
	uint32_t luck = history_random(h, 12);

	if (before != NULL && (luck == 0 || strstr(before, "\"final\":true") != NULL))
		return NULL;
	s.final = before != NULL && luck < 4;
	s.dead = s.final && luck == 1;
	s.key = luck % 2 == 0 ? "0//key" : NULL;
	s.ended_us = s.final ? 1000 + h->count : 0;
	s.bytes = s.final ? 100 : 0;
	s.filler = luck == 11 && history_random(h, 2) == 0
		       ? 5000
		       : 100 + (int)history_random(h, 500); /* some are on several pages */
	return sample_text(&s);
}

int
history_commit(struct history *h, struct store *s, int rows, int operations)
{
	struct store_batch b = {0};
	char **now = h->states[h->count], **next = h->states[h->count + 1];
	int status;

	assert_true(h->count < MAX_COMMITS);
	for (int i = 0; i < JOBS; i++)
		next[i] = now[i] != NULL ? strdup(now[i]) : NULL;
	for (int i = 0; i < rows; i++) {
		int job = (int)history_random(h, JOBS);
		char *text = next_text(h, job, next[job]);
		batch_add_text(&b, (uint64_t)job + 1, text);
		free(next[job]);
		next[job] = text;
	}
	batch_add_event(&b, h->count + 1, "{\"event\":1}");
	status = store_commit(s, &b);
	if (s->log_frames >= LOG_FRAMES)
		store_move_log(s);
	store_batch_clear(&b);
	h->ended_at[h->count] = operations;
	h->count += status == 0;
	for (int i = 0; i < JOBS && status != 0; i++)
		free(next[i]);
	return status;
}

void
history_clear(struct history *h)
{
	for (int n = 0; n <= h->count; n++) {
		for (int i = 0; i < JOBS; i++)
			free(h->states[n][i]);
	}
	*h = (struct history){0};
}

/* ---- contents */

static void
take_open(struct contents *c, const struct store_start *start)
{
	for (int i = 0; i < start->row_count; i++) {
		uint64_t number = start->rows[i].number;
		assert_in_range(number, 1, JOBS);
		assert_null(c->texts[number - 1]);
		c->texts[number - 1] = strdup(start->rows[i].body);
	}
}

static void
take_ended(struct contents *c, struct store *s)
{
	for (int i = 0; i < JOBS; i++) {
		char *body;
		int found = find_ended(s, (uint64_t)i + 1, &body);
		c->damaged[i] = found < 0;
		if (found == 1) {
			assert_null(c->texts[i]); /* open and ended at once */
			c->texts[i] = body;
		}
	}
}

/* Whether the list shows what the ids lead to; a job that is damaged is either. */
static bool
list_agrees(const struct contents *c, struct store *s)
{
	struct store_query q = {.wanted = STORE_ENDED, .limit = JOBS + 1};
	bool good = store_find(s, &q) == 0 && q.count <= JOBS;

	for (int i = 0; i < q.count && good; i++) {
		uint64_t number = q.rows[i].number;
		if (q.rows[i].body == NULL)
			continue;
		good = number >= 1 && number <= JOBS && c->texts[number - 1] != NULL &&
		       strcmp(c->texts[number - 1], q.rows[i].body) == 0;
	}
	store_query_clear(&q);
	return good;
}

bool
contents_read(struct contents *c, struct store *s)
{
	struct store_start start = {0};
	bool good = store_load(s, &start) == 0;

	*c = (struct contents){0};
	if (good) {
		take_open(c, &start);
		take_ended(c, s);
		good = list_agrees(c, s);
	}
	store_start_clear(&start);
	return good;
}

void
contents_clear(struct contents *c)
{
	for (int i = 0; i < JOBS; i++)
		free(c->texts[i]);
}
