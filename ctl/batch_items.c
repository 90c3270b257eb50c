/*
 * A batch's items: the lines of its file, all of them checked before any of them is submitted.
 */
#include "ctl/batch.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/call.h"
#include "ctl/picture.h"
#include "ipc/api.h"

enum {
	MAX_ITEMS = 100000,
	MAX_COMPLAINTS = 20, /* that are shown */
	MAX_NAME = 200,	     /* bytes of a picture's name: a temporary one is longer, and 255 the limit */
	WAIT_ALL_DAY = 86400 /* seconds in the queue, where a single job has a person who waits for it */
};

#define BYTE_ORDER_MARK "\xef\xbb\xbf" /* which editors of Windows put before UTF-8 */

struct reader {
	struct batch *batch;
	int line, complaints;
	json_t *names; /* picture's name to the line that has it */
};

static void
complain(struct reader *r, const char *format, ...)
{
	va_list args;

	if (++r->complaints > MAX_COMPLAINTS)
		return;
	fprintf(stderr, "zitctl: %s:%d: ", r->batch->file, r->line);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

/* ---- what is submitted */

/* FNV-1a: it need not withstand anybody, only tell lines apart. */
static uint64_t
digest_text(uint64_t sum, const char *text)
{
	for (; *text != '\0'; text++)
		sum = (sum ^ (unsigned char)*text) * UINT64_C(1099511628211);
	return sum;
}

static uint64_t
digest_json(uint64_t sum, const json_t *value)
{
	char *text =
	    json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY); /* a string is a line too */

	sum = digest_text(sum, text != NULL ? text : "");
	free(text);
	return sum;
}

/* One key for one try of one line, whatever becomes of the connection or of this process. */
static void
add_idempotency_key(const struct batch *b, const struct batch_item *item, json_t *params)
{
	uint64_t sum = UINT64_C(14695981039346656037);
	char text[80];

	if (!api_has_field(API_submit, "idempotency_key"))
		return;
	snprintf(text, sizeof(text), "%d %d %s", item->line, item->tries, item->digest);
	sum = digest_json(digest_text(digest_text(sum, b->group), text), params);
	snprintf(text, sizeof(text), "batch-%016llx-%d-%d", (unsigned long long)sum, item->line, item->tries);
	json_object_set_new(params, "idempotency_key", json_string(text));
}

json_t *
batch_submit_params(const struct batch *b, const struct batch_item *item)
{
	json_t *params = json_copy(b->ctl->params);

	json_object_update(params, item->params);
	json_object_set_new(params, "group", json_string(b->group));
	if (json_object_get(params, "queue_timeout") == NULL)
		json_object_set_new(params, "queue_timeout", json_integer(WAIT_ALL_DAY));
	if (json_object_get(params, "seed") == NULL && item->seed >= 0)
		json_object_set_new(params, "seed", json_integer(item->seed)); /* as the last try's */
	add_idempotency_key(b, item, params);
	return params;
}

bool
batch_path(const struct batch *b, const struct batch_item *item, int index, char *out, size_t size)
{
	char save[PATH_MAX];
	int n = snprintf(save, sizeof(save), "%s/%s", b->dir, item->out);

	return n > 0 && (size_t)n < sizeof(save) && picture_path(save, index, item->count, out, size);
}

/* ---- what is told of an item: in the record, on standard output, as progress */

static const char *const state_names[ITEM_STATES] = {"todo", "submitted", "done", "failed", "cancelled"};

enum item_state
batch_state(const char *name)
{
	for (int i = 0; i < ITEM_STATES; i++) {
		if (strcmp(name, state_names[i]) == 0)
			return (enum item_state)i;
	}
	return ITEM_TODO;
}

json_t *
batch_record(const struct batch_item *item)
{
	json_t *record =
	    json_pack("{s:i, s:s, s:i, s:s, s:s, s:i}", "line", item->line, "out", item->out, "n",
		item->count, "state", state_names[item->state], "digest", item->digest, "tries", item->tries);

	if (item->job[0] != '\0')
		json_object_set_new(record, "job", json_string(item->job));
	if (item->seed >= 0)
		json_object_set_new(record, "seed", json_integer(item->seed));
	if (item->error != NULL)
		json_object_set(record, "error", item->error);
	return record;
}

/* ---- checks */

/* Whether zitd would take these parameters; else *e and the parameter's name. */
static bool
is_accepted(const json_t *params, struct err *e)
{
	json_t *request = json_pack("{s:s, s:O}", "method", "submit", "params", params), *id = NULL;
	char *text = json_dumps(request, JSON_COMPACT), param[64];
	struct api_request parsed;
	bool good = false;

	if (text == NULL || strlen(text) > API_MAX_LINE)
		err_set(e, ERR_INVALID_PARAM, "it is longer than a request may be, %d bytes; shorten it",
		    API_MAX_LINE);
	else
		good = api_parse(&parsed, text, strlen(text), e, param, &id) == 0;
	if (good)
		api_request_clear(&parsed);
	json_decref(id);
	free(text);
	json_decref(request);
	return good;
}

/* Members that say how an answer comes: batch's own business. */
static const char *
reserved_member(const json_t *params)
{
	static const char *const names[] = {
	    "wait", "events", "deliver", "on_disconnect", "group", "idempotency_key"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (json_object_get(params, names[i]) != NULL)
			return names[i];
	}
	return NULL;
}

/* The options of the command line alone, so that no line is blamed for them. */
static int
check_options(const struct batch *b)
{
	json_t *params = json_copy(b->ctl->params);
	const char *reserved = reserved_member(params);
	struct err e;
	bool good = reserved == NULL;

	json_object_set_new(params, "prompt", json_string("x"));
	if (!good)
		err_set(&e, ERR_INVALID_PARAM, "batch sets %s itself; leave it out", reserved);
	else
		good =
		    is_accepted(params, &e) && (b->ctl->group == NULL || group_check(b->ctl->group, &e) == 0);
	if (!good)
		fprintf(stderr, "zitctl: %s: %s\n", err_row(e.code)->name, e.text);
	json_decref(params);
	return good ? 0 : CTL_USAGE;
}

/* A plain name of a file that batch does not keep for itself. */
static bool
check_name(struct reader *r, const char *name)
{
	if (*name == '\0' || *name == '.' || strchr(name, '/') != NULL || strlen(name) > MAX_NAME)
		complain(r,
		    "out must be a file name of 1 to %d bytes without '/' that does not begin with '.', such "
		    "as fox.png",
		    MAX_NAME);
	else if (strcmp(name, BATCH_BOOK) == 0 || strcmp(name, BATCH_FRESH_BOOK) == 0)
		complain(r, "out cannot be %s, where the record of the batch is; name it otherwise", name);
	else
		return true;
	return false;
}

/* Each picture's name once: a later one would take an earlier one's place. */
static void
check_names(struct reader *r, const struct batch_item *item)
{
	char path[PATH_MAX];

	for (int i = 0; i < item->count; i++) {
		const char *name;
		json_t *other;

		if (!batch_path(r->batch, item, i, path, sizeof(path))) {
			complain(
			    r, "the picture's path is too long; shorten out, or the name of the directory");
			return;
		}
		name = path + strlen(r->batch->dir) + 1;
		other = json_object_get(r->names, name);
		if (other != NULL) {
			complain(r,
			    "its picture %s is also that of line %d; give one of them another \"out\"", name,
			    (int)json_integer_value(other));
			return;
		}
		json_object_set_new(r->names, name, json_integer(r->line));
	}
}

/* ---- reading */

/* The members of the line as those of a submit, and its `out` apart; false after complaining. */
static bool
take_members(struct reader *r, json_t *value, struct batch_item *item)
{
	json_t *out = json_object_get(value, "out");
	const char *reserved = reserved_member(value);
	char name[32];

	if (json_is_string(value)) {
		item->params = json_pack("{s:O}", "prompt", value);
	} else if (!json_is_object(value)) {
		complain(
		    r, "a line is an object with the parameters of submit, or a string, the prompt alone");
		return false;
	} else if (reserved != NULL) {
		complain(r, "batch sets %s itself; leave it out", reserved);
		return false;
	} else if (out != NULL && !json_is_string(out)) {
		complain(r, "out must be a string, the picture's file name");
		return false;
	}
	snprintf(name, sizeof(name), "%04d.png", r->line);
	if (out != NULL && !check_name(r, json_string_value(out)))
		return false;
	item->out = strdup(out != NULL ? json_string_value(out) : name);
	if (item->params == NULL) {
		item->params = json_copy(value);
		json_object_del(item->params, "out");
	}
	return item->out != NULL;
}

static void
check_item(struct reader *r, struct batch_item *item)
{
	json_t *params = batch_submit_params(r->batch, item);
	const json_t *count = json_object_get(params, "n");
	struct err e;

	if (!is_accepted(params, &e)) {
		complain(r, "%s", e.text);
	} else {
		item->count = json_is_number(count) ? (int)json_number_value(count) : 1;
		check_names(r, item);
	}
	json_decref(params);
}

static void
read_item(struct reader *r, const char *text, size_t bytes)
{
	struct batch *b = r->batch;
	struct batch_item *item = &b->items[b->count];
	json_error_t why;
	json_t *value = json_loadb(text, bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);

	if (value == NULL) {
		complain(r,
		    "it is not JSON: %s at byte %d; a line is an object such as {\"prompt\": \"a cat\"}, or "
		    "a string",
		    why.text, why.position);
		return;
	}
	*item = (struct batch_item){.line = r->line, .seed = -1};
	snprintf(item->digest, sizeof(item->digest), "%016llx",
	    (unsigned long long)digest_json(UINT64_C(14695981039346656037), value));
	b->count++;
	if (take_members(r, value, item))
		check_item(r, item);
	json_decref(value);
}

/* Room for one more; false: there are too many. */
static bool
make_room(struct batch *b)
{
	struct batch_item *items = b->items;

	if (b->count == MAX_ITEMS)
		return false;
	if ((b->count & (b->count - 1)) == 0) /* at each power of two */
		items = realloc(b->items, (size_t)(b->count > 0 ? 2 * b->count : 1) * sizeof(*items));
	if (items == NULL)
		return false;
	b->items = items;
	return true;
}

static void
read_lines(struct reader *r, FILE *file)
{
	char *text = NULL;
	size_t room = 0;
	ssize_t bytes;

	while ((bytes = getline(&text, &room, file)) >= 0) {
		size_t begin = r->line == 0 && strncmp(text, BYTE_ORDER_MARK, 3) == 0 ? 3 : 0;

		r->line++;
		if (bytes > 0 && text[bytes - 1] == '\n')
			bytes--;
		if (begin + strspn(text + begin, " \t\r\n") >= (size_t)bytes)
			continue;
		if (!make_room(r->batch)) {
			complain(r, "a batch has at most %d lines; make two of it", MAX_ITEMS);
			break;
		}
		read_item(r, text + begin, (size_t)bytes - begin);
	}
	if (ferror(file) && errno != EINTR)
		complain(r, "it cannot be read: %s", strerror(errno));
	free(text);
}

int
batch_read(struct batch *b)
{
	struct reader r = {.batch = b, .names = json_object()};
	FILE *file = strcmp(b->file, "-") == 0 ? stdin : fopen(b->file, "re");
	int status = check_options(b);
	bool interrupted = false;

	if (status == 0 && file == NULL) {
		fprintf(stderr, "zitctl: %s cannot be opened: %s\n", b->file, strerror(errno));
		status = CTL_USAGE;
	}
	if (status == 0) {
		read_lines(&r, file);
		interrupted = client_sleep(0) == CLIENT_INTERRUPTED;
		if (b->count == 0 && r.complaints == 0 && !interrupted)
			complain(&r, "there is nothing in it; a line is an object such as {\"prompt\": \"a "
				     "cat\"}, or a string");
		if (r.complaints > MAX_COMPLAINTS)
			fprintf(stderr, "zitctl: %s: and %d more\n", b->file, r.complaints - MAX_COMPLAINTS);
		if (r.complaints > 0)
			fprintf(stderr, "zitctl: nothing was submitted\n");
		status = r.complaints > 0 ? CTL_USAGE : 0;
		if (interrupted)
			status = call_failed(CLIENT_INTERRUPTED, NULL);
	}
	if (file != NULL && file != stdin)
		fclose(file);
	json_decref(r.names);
	return status;
}

void
batch_clear_items(struct batch *b)
{
	for (int i = 0; i < b->count; i++) {
		json_decref(b->items[i].params);
		json_decref(b->items[i].error);
		free(b->items[i].out);
	}
	free(b->items);
	b->items = NULL;
	b->count = 0;
}
