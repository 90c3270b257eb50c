/*
 * From an event and its facts to a line of the log.
 */
#include "supervisor/journal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ipc/clock.h"
#include "ipc/decimal.h"
#include "ipc/err.h"
#include "ipc/sha256.h"
#include "ipc/utf8.h"
#include "supervisor/journal_inside.h"

enum {
	MESSAGE = 1000,	 /* bytes that it may have, with the NUL */
	VALUE = 1024,	 /* and each text of a field */
	ROOM = 8 * 1024, /* for all of them */
	SOME_S = 5,	 /* events of a row that is bounded by SOME, in the long run */
	SOME_BURST = 50,
};

enum prompts { PROMPTS_NONE, PROMPTS_HASH, PROMPTS_FULL };

static journal_form *form;
static enum prompts prompts = PROMPTS_HASH;
static void (*facts_of_job)(const struct job *, struct journal_facts *);
static void (*facts_of_runner)(const struct runner *, struct journal_facts *);
static int64_t lost; /* lines that there was no room for */

void
journal_set_objects(void (*job)(const struct job *, struct journal_facts *),
    void (*runner)(const struct runner *, struct journal_facts *))
{
	facts_of_job = job;
	facts_of_runner = runner;
}

/* ---- fields */

static const char *
hash_of(const char *text)
{
	static const char digits[] = "0123456789abcdef";
	static char hex[2 * SHA256_BYTES + 1];
	uint8_t digest[SHA256_BYTES];
	struct sha256 s;

	sha256_init(&s);
	sha256_feed(&s, text, strlen(text));
	sha256_end(&s, digest);
	for (int i = 0; i < 2 * SHA256_BYTES; i++)
		hex[i] = digits[i % 2 == 0 ? digest[i / 2] >> 4 : digest[i / 2] & 15];
	return hex;
}

/* No more of the prompt than log_prompts allows. */
static void
veil_prompt(struct journal_facts *facts)
{
	if (facts->prompt != NULL && prompts == PROMPTS_HASH)
		facts->prompt_sha256 = hash_of(facts->prompt);
	if (prompts != PROMPTS_FULL)
		facts->prompt = NULL;
}

static void
copy_line(char *out, const char *text, size_t room)
{
	size_t bytes = strnlen(text, room - 1);

	memcpy(out, text, bytes);
	out[bytes] = '\0';
	utf8_make_line(out);
}

/* Texts of these fields as safe lines, in memory of their own; whatever has no room is left out. */
static void
make_safe(struct journal_facts *facts, uint64_t fields)
{
	static char room[ROOM];
	size_t used = 0;

	for (int i = 0; i < FACT_COUNT; i++) {
		size_t left = sizeof(room) - used, most = left < VALUE ? left : VALUE;
		if ((fields & FACT_BIT(i)) == 0 || journal_fields[i].kind != TEXT ||
		    !journal_has(facts, (enum fact)i))
			continue;
		if (most < 2) {
			*journal_text(facts, i) = NULL;
			continue;
		}
		copy_line(room + used, *journal_text(facts, i), most);
		*journal_text(facts, i) = room + used;
		used += strlen(room + used) + 1;
	}
}

/* What the objects know, with the texts of these fields made safe. */
static void
complete(struct journal_facts *facts, uint64_t fields)
{
	if (facts->job != NULL)
		facts_of_job(facts->job, facts);
	if (facts->runner != NULL)
		facts_of_runner(facts->runner, facts);
	if (facts->error != NULL) {
		facts->error_name = err_row((int)facts->error->code)->name;
		facts->detail = facts->error->text;
	}
	if ((fields & (FACT_BIT(FACT_prompt) | FACT_BIT(FACT_prompt_sha256))) != 0)
		veil_prompt(facts);
	make_safe(facts, fields);
}

/* ---- the message */

struct line {
	char text[MESSAGE];
	size_t length;
};

static void
put_bytes(struct line *out, const char *bytes, size_t count)
{
	size_t room = sizeof(out->text) - 1 - out->length;

	count = count < room ? count : room;
	memcpy(out->text + out->length, bytes, count);
	out->length += count;
	out->text[out->length] = '\0';
}

static int
find_field(const char *name, size_t length)
{
	for (int i = 0; i < FACT_COUNT; i++) {
		if (journal_fields[i].name_bytes == length &&
		    memcmp(journal_fields[i].name, name, length) == 0)
			return i;
	}
	return FACT_COUNT;
}

/* As people read it; false: it is not there. */
static bool
put_field(struct line *out, const struct journal_facts *facts, const char *name, size_t length)
{
	int field = find_field(name, length);
	char number[32], *end = number + sizeof(number), *at;

	if (field == FACT_COUNT || !journal_has(facts, (enum fact)field))
		return false;
	if (journal_fields[field].kind == TEXT) {
		const char *text = *journal_text((struct journal_facts *)facts, field);
		put_bytes(out, text, strlen(text));
		return true;
	}
	if (journal_fields[field].kind == USEC) {
		snprintf(number, sizeof(number), "%.3f s", (double)journal_number(facts, field) * 1e-6);
		put_bytes(out, number, strlen(number));
	} else {
		at = decimal_put(end, journal_number(facts, field));
		put_bytes(out, at, (size_t)(end - at));
	}
	return true;
}

/* The template up to its end or the closing bracket, which is where the result points. A part in brackets
 * that lacks a field is taken back. */
static const char *
put_template(struct line *out, const struct journal_facts *facts, const char *at, bool *whole)
{
	*whole = true;
	while (*at != '\0' && *at != ']') {
		size_t count = strcspn(at, "@[]"), before;
		bool part;
		put_bytes(out, at, count);
		at += count;
		if (*at == '@') {
			count = strcspn(at + 1, "@");
			*whole &= put_field(out, facts, at + 1, count);
			at += count + 2;
		} else if (*at == '[') {
			before = out->length;
			at = put_template(out, facts, at + 1, &part) + 1;
			out->length = part ? out->length : before;
		}
	}
	out->text[out->length] = '\0';
	return at;
}

/* ---- out */

static bool
put(const struct entry *e)
{
	return form != NULL ? form(e) : log_put(e->level, e->message);
}

static bool
tell_lost(void)
{
	const struct journal_facts facts = {.count = lost};
	struct line message = {.length = 0};
	bool whole;
	const struct event_row *row = &journal_events[EVENT_LINES_LOST];
	const struct entry e = {row->level, row, "zitd", message.text, JOURNAL_HERE, &facts, row->fields};

	put_template(&message, &facts, row->message, &whole);
	return put(&e);
}

/* The journal's queue is full: what somebody should look at may still get there by stderr, which has one of
 * its own. */
static bool
put_aside(const struct entry *e)
{
	return e->level <= LOG_LEVEL_WARNING && log_is_journal() && log_put(e->level, e->message);
}

/* What cannot leave is counted; and nothing leaves as ever before that has been told. */
static void
deliver(const struct entry *e)
{
	int error = errno;

	if (lost > 0 && tell_lost())
		lost = 0;
	if ((lost > 0 || !put(e)) && !put_aside(e))
		lost++;
	errno = error;
}

/* ---- events that strangers cause */

static struct bucket {
	double left; /* that may be logged now */
	int64_t at_us, spared;
} buckets[EVENT_COUNT];

static bool
is_spared(enum event event)
{
	struct bucket *b = &buckets[event];
	int64_t now_us = clock_now_us(), spared;

	b->left = b->at_us == 0 ? SOME_BURST : b->left + (double)(now_us - b->at_us) * 1e-6 * SOME_S;
	b->left = b->left < SOME_BURST ? b->left : SOME_BURST;
	b->at_us = now_us;
	if (b->left < 1) {
		b->spared++;
		return true;
	}
	b->left -= 1;
	spared = b->spared;
	b->spared = 0;
	if (spared > 0)
		journal(EVENT_LINES_SPARED, .count = spared,
		    .detail = journal_event_name(&journal_events[event]));
	return false;
}

static void
tell(const struct event_row *row, const struct journal_facts *given, const struct journal_place *place)
{
	struct journal_facts facts = *given;
	struct line message = {.length = 0};
	const struct entry e = {row->level, row, "zitd", message.text, place, &facts, row->fields};
	bool whole;

	complete(&facts, row->fields);
	put_template(&message, &facts, row->message, &whole);
	utf8_make_line(message.text); /* it may have been cut within a character */
	deliver(&e);
}

/* Most are not wanted: those cost next to nothing. */
void
journal_event(enum event event, const struct journal_facts *facts, const struct journal_place *place)
{
	const struct event_row *row = &journal_events[event];

	if (log_wants(row->level) && (row->bound != SOME || !is_spared(event)))
		tell(row, facts, place);
}

void
journal_line(enum log_level level, const char *program, const struct runner *runner, const char *text)
{
	const uint64_t fields = FACT_BIT(FACT_job_id) | FACT_BIT(FACT_runner_name) | FACT_BIT(FACT_pid);
	struct journal_facts facts = {.runner = runner, .pid = -1};
	const struct entry e = {level, NULL, program, text, NULL, &facts, fields};

	if (!log_wants(level))
		return;
	complete(&facts, fields);
	deliver(&e);
}

/* Of log.h. */
static void
take_line(enum log_level level, const char *line)
{
	journal_line(level, "zitd", NULL, line);
}

bool
journal_is_form(const char *name)
{
	return journal_find_form(name) != NULL;
}

void
journal_set_form(const char *name)
{
	form = journal_find_form(name);
	log_divert(take_line);
}

void
journal_set_prompts(const char *what)
{
	static const char *const words[] = {
	    [PROMPTS_NONE] = "none", [PROMPTS_HASH] = "hash", [PROMPTS_FULL] = "full"};

	for (int i = PROMPTS_NONE; i <= PROMPTS_FULL; i++) {
		if (strcmp(what, words[i]) == 0)
			prompts = (enum prompts)i;
	}
}
