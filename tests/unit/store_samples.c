/*
 * Jobs as the store sees them, for its tests.
 */
#include "tests/unit/test.h"

#include "tests/unit/store_samples.h"

#include "supervisor/store/seal.h"
#include "supervisor/store/store_inside.h"

void
sample_id(uint64_t number, char id[ID_SIZE])
{
	snprintf(id, ID_SIZE, "job_%026llu", (unsigned long long)number);
}

/* Letters that differ from job to job and from revision to revision. */
static char *
make_prompt(const struct sample *s)
{
	char *prompt = malloc((size_t)s->filler + 1);
	uint64_t x = s->number * 7919 + (uint64_t)s->revision * 104729 + 1;

	for (int i = 0; i < s->filler; i++) {
		x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		prompt[i] = (char)('a' + (x >> 33) % 26);
	}
	prompt[s->filler] = '\0';
	return prompt;
}

char *
sample_text(const struct sample *s)
{
	char id[ID_SIZE], *prompt = make_prompt(s);
	json_t *o;

	sample_id(s->number, id);
	o = json_pack("{s:I, s:I, s:s, s:b, s:b, s:I, s:I, s:I, s:i, s:s*, s:s*, s:s}", "number",
	    (json_int_t)s->number, "revision", (json_int_t)s->revision, "id", id, "final", s->final, "dead",
	    s->dead, "ended_at_us", (json_int_t)s->ended_us, "keep_until_us", (json_int_t)s->keep_until_us,
	    "bytes", (json_int_t)s->bytes, "pictures", s->pictures, "key", s->key, "group", s->group,
	    "prompt", prompt);
	free(prompt);
	return seal("job", o);
}

/* ---- batches */

void
batch_add_text(struct store_batch *b, uint64_t number, const char *text)
{
	b->rows = realloc(b->rows, (size_t)(b->row_count + 1) * sizeof(*b->rows));
	b->rows[b->row_count] = (struct store_row){.number = number};
	if (text != NULL)
		assert_true(store_read_row(&b->rows[b->row_count], text, strlen(text)));
	b->rows[b->row_count++].body = text != NULL ? strdup(text) : NULL;
}

void
batch_add(struct store_batch *b, const struct sample *s)
{
	char *text = sample_text(s);

	batch_add_text(b, s->number, text);
	free(text);
}

void
batch_add_event(struct store_batch *b, int64_t seq, const char *text)
{
	b->events = realloc(b->events, (size_t)(b->event_count + 1) * sizeof(*b->events));
	b->events[b->event_count++] = (struct store_event){seq, text != NULL ? strdup(text) : NULL};
}

void
batch_add_note(struct store_batch *b, const char *name, const char *text)
{
	b->notes = realloc(b->notes, (size_t)(b->note_count + 1) * sizeof(*b->notes));
	b->notes[b->note_count++] =
	    (struct store_note){strdup(name), seal("note", json_pack("{s:s}", "text", text))};
}

void
commit_samples(struct store *s, const struct sample *samples, int count)
{
	struct store_batch b = {0};

	for (int i = 0; i < count; i++)
		batch_add(&b, &samples[i]);
	assert_int_equal(store_commit(s, &b), 0);
	store_tend(s);
	store_batch_clear(&b);
}

int
find_ended(struct store *s, uint64_t number, char **body)
{
	struct store_query q = {.wanted = STORE_IDS, .text_count = 1};
	int found = 0;

	q.texts = calloc(1, sizeof(char *));
	q.texts[0] = calloc(1, ID_SIZE);
	sample_id(number, q.texts[0]);
	*body = NULL;
	if (store_find(s, &q) == 0 && q.rows[0].number != 0)
		found = q.rows[0].body != NULL ? 1 : -1;
	if (found == 1)
		*body = strdup(q.rows[0].body);
	store_query_clear(&q);
	return found;
}
