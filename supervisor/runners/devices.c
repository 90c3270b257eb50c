/*
 * The CUDA devices of this machine, and which runner has which. What a probe prints is not trusted: a uuid
 * becomes part of a file's name and of an environment.
 */
#include "supervisor/runners/devices.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/err.h"
#include "ipc/utf8.h"

_Static_assert(DEVICES_MAX <= 64, "a bit for each device");

/* ---- what the option says */

bool
device_is_uuid(const char *text)
{
	const char *letters = "abcdefABCDEF0123456789-/GPUMI";

	return (strncmp(text, "GPU-", 4) == 0 || strncmp(text, "MIG-", 4) == 0) && text[4] != '\0' &&
	       strspn(text, letters) == strlen(text) && strlen(text) < GPU_UUID;
}

bool
device_is_host(const char *text)
{
	return strcmp(text, "cpu") == 0 || strcmp(text, "ref") == 0;
}

bool
device_is_any(const char *text)
{
	return strcmp(text, "auto") == 0 || strcmp(text, "cuda") == 0;
}

/* N of cuda:N; -1: it is no such thing. */
static int
index_of(const char *text)
{
	size_t digits;

	if (strncmp(text, "cuda:", 5) != 0)
		return -1;
	digits = strspn(text + 5, "0123456789");
	return digits > 0 && digits <= 3 && text[5 + digits] == '\0' ? atoi(text + 5) : -1;
}

bool
device_is_word(const char *text)
{
	return device_is_host(text) || device_is_any(text) || index_of(text) >= 0 || device_is_uuid(text);
}

/* ---- what a probe prints */

/* The last line: libraries may have had something to say before. */
static const char *
last_line(const char *text)
{
	const char *line = text;

	for (const char *at = text; *at != '\0'; at++) {
		if (at[0] == '\n' && at[1] != '\0' && at[1] != '\n')
			line = at + 1;
	}
	return line;
}

/* The member's text; "": there is none that fits. */
static void
take_text(const json_t *from, const char *member, char *out, size_t size)
{
	const char *text = json_string_value(json_object_get(from, member));

	snprintf(out, size, "%s", text != NULL ? text : "");
	utf8_make_line(out);
}

static bool
take_gpu(struct gpu *g, const json_t *from)
{
	const char *uuid = json_string_value(json_object_get(from, "uuid"));

	if (uuid == NULL || !device_is_uuid(uuid))
		return false;
	snprintf(g->uuid, sizeof(g->uuid), "%s", uuid);
	take_text(from, "name", g->name, sizeof(g->name));
	take_text(from, "compute_capability", g->capability, sizeof(g->capability));
	take_text(from, "reason", g->unusable, sizeof(g->unusable));
	g->memory_bytes = json_integer_value(json_object_get(from, "memory_bytes"));
	return g->name[0] != '\0' && g->memory_bytes > 0;
}

static bool
is_told_twice(const struct devices *d, int index)
{
	for (int i = 0; i < index; i++) {
		if (strcmp(d->list[i].uuid, d->list[index].uuid) == 0)
			return true;
	}
	return false;
}

/* false with *why. */
static bool
take_list(struct devices *d, const json_t *list, char why[DEVICES_REASON])
{
	for (int i = 0; i < d->count; i++) {
		if (!take_gpu(&d->list[i], json_array_get(list, (size_t)i))) {
			snprintf(why, DEVICES_REASON, "device %d has no uuid, no name or no memory", i);
			return false;
		}
		if (is_told_twice(d, i)) {
			snprintf(why, DEVICES_REASON, "%s is in it twice", d->list[i].uuid);
			return false;
		}
	}
	return true;
}

/* Why none of them can be used: the first one's reason, or the program's own. */
static void
find_reason(struct devices *d, const json_t *answer)
{
	for (int i = 0; i < d->count; i++) {
		if (d->list[i].unusable[0] == '\0')
			return;
	}
	take_text(answer, "reason", d->reason, sizeof(d->reason));
	if (d->reason[0] == '\0' && d->count > 0)
		snprintf(d->reason, sizeof(d->reason), "%s", d->list[0].unusable);
	if (d->reason[0] == '\0')
		snprintf(d->reason, sizeof(d->reason), "it gave no reason");
}

static struct devices *
take_answer(const json_t *answer, char why[DEVICES_REASON])
{
	const json_t *list = json_object_get(answer, "devices");
	size_t told = json_array_size(list), count = told < DEVICES_MAX ? told : DEVICES_MAX;
	struct devices *d;

	if (!json_is_array(list)) {
		snprintf(why, DEVICES_REASON, "its last line is no object with devices");
		return NULL;
	}
	d = calloc(1, sizeof(*d) + count * sizeof(d->list[0]));
	if (d == NULL) {
		snprintf(why, DEVICES_REASON, "out of memory");
		return NULL;
	}
	d->told = (int)told;
	d->count = (int)count;
	if (take_list(d, list, why)) {
		find_reason(d, answer);
		return d;
	}
	free(d);
	return NULL;
}

struct devices *
devices_parse(const char *text, int exit_status, char why[DEVICES_REASON])
{
	const char *line = last_line(text);
	int length = (int)(strcspn(line, "\n") < 150 ? strcspn(line, "\n") : 150);
	json_t *answer = json_loads(line, 0, NULL);
	struct devices *d = NULL;

	if (answer != NULL && (exit_status == RUNNER_EXIT_OK || exit_status == RUNNER_EXIT_NO_DEVICE))
		d = take_answer(answer, why);
	else if (exit_status != RUNNER_EXIT_OK)
		snprintf(why, DEVICES_REASON, "exit status %d%s%.*s", exit_status, length > 0 ? ": " : "",
		    length, line);
	else
		snprintf(why, DEVICES_REASON, "its last line is no JSON: %.*s", length, line);
	utf8_make_line(why);
	json_decref(answer);
	return d;
}

json_t *
devices_describe(const struct gpu *g)
{
	json_t *o = json_pack("{s:s, s:s, s:I, s:s}", "uuid", g->uuid, "name", g->name, "memory_bytes",
	    (json_int_t)g->memory_bytes, "compute_capability", g->capability);

	if (g->unusable[0] != '\0')
		json_object_set_new(o, "reason", json_string(g->unusable));
	return o;
}

/* ---- which runner has which */

static bool
is_usable(const struct devices *d, int index)
{
	return index >= 0 && index < d->count && d->list[index].unusable[0] == '\0';
}

static int
find_uuid(const struct devices *d, const char *uuid)
{
	for (int i = 0; i < d->count; i++) {
		if (strcasecmp(d->list[i].uuid, uuid) == 0)
			return i;
	}
	return -1;
}

/* The device goes to the wish if it can be used and is in `from`, which it leaves. */
static bool
give(const struct devices *d, struct device_wish *w, int index, uint64_t from, uint64_t *unclaimed)
{
	if (!is_usable(d, index) || (from >> index & 1) == 0)
		return false;
	w->choice = CHOICE_GPU;
	w->index = index;
	*unclaimed &= ~(UINT64_C(1) << index);
	return true;
}

/* One that is named is its, whoever else names it too: their lock tells them that only one can have it. */
static void
give_named(const struct devices *d, struct device_wish *w, uint64_t *unclaimed)
{
	int index = device_is_uuid(w->device) ? find_uuid(d, w->device) : index_of(w->device);

	w->choice = CHOICE_AS_SAID;
	if (!device_is_any(w->device) && !device_is_host(w->device))
		give(d, w, index, ~UINT64_C(0), unclaimed);
}

static void
give_any(const struct devices *d, struct device_wish *w, uint64_t *unclaimed)
{
	bool given = false;

	for (int i = 0; i < d->count && !given; i++)
		given = give(d, w, i, *unclaimed, unclaimed);
	if (given)
		return;
	if (w->further)
		w->choice = CHOICE_NOBODY;
	else if (strcmp(w->device, "auto") == 0)
		w->choice = CHOICE_HOST;
	else
		w->choice = d->reason[0] != '\0' ? CHOICE_AS_SAID : CHOICE_NOBODY;
}

void
devices_assign(const struct devices *d, struct device_wish *wishes, int count, uint64_t *unclaimed)
{
	*unclaimed = 0;
	for (int i = 0; i < d->count; i++)
		*unclaimed |= is_usable(d, i) ? UINT64_C(1) << i : 0;
	for (int i = 0; i < count; i++)
		give_named(d, &wishes[i], unclaimed);
	for (int i = 0; i < count; i++) {
		if (device_is_any(wishes[i].device))
			give(d, &wishes[i], find_uuid(d, wishes[i].present), *unclaimed, unclaimed);
	}
	for (int i = 0; i < count; i++) {
		if (device_is_any(wishes[i].device) && wishes[i].choice != CHOICE_GPU)
			give_any(d, &wishes[i], unclaimed);
	}
}
