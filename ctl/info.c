/*
 * The commands about pictures in files: info says what made them, replay makes one again and compares.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/call.h"
#include "ctl/draw.h"
#include "ctl/output.h"
#include "ctl/picture.h"
#include "ctl/picture_read.h"
#include "ctl/request.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* ---- info */

static const struct output_column info_columns[] = {
    {"file", "file", 0},
    {"width", "width", 0},
    {"height", "height", 0},
    {"damage", "damage", 0},
    {"job", "request.job", 0},
    {"prompt", "request.prompt", 0},
    {"negative", "request.negative_prompt", 0},
    {"steps", "request.steps", 0},
    {"seed", "request.seed", 0},
    {"shift", "request.shift", 0},
    {"model", "request.model", 0},
    {"model hash", "request.model_hash", 0},
    {"device", "request.device", 0},
    {"precision", "request.precision", 0},
    {"build", "request.build", 0},
    {"software", "texts.Software", 0},
    {"created", "texts.Creation Time", 0},
    {"texts", "keys", 0},
    {"parameters", "texts.parameters", 1},
    {0},
};

static const struct output_table info_table = {"file", NULL, info_columns};

/* The names of its texts, for people. */
static json_t *
keys_of(const json_t *texts)
{
	char out[200] = "";
	size_t used = 0;
	const char *key;
	json_t *text;

	json_object_foreach((json_t *)texts, key, text)
	{
		int n = snprintf(out + used, sizeof(out) - used, "%s%s", used > 0 ? ", " : "", key);
		used += n > 0 ? (size_t)n : 0;
		if (used >= sizeof(out))
			break;
	}
	output_plain(out, out, sizeof(out));
	return json_string(used > 0 ? out : "none");
}

/* What the file says, with `file`, `keys`, and `request` if it has one (new reference); NULL with *e. */
static json_t *
facts_of(const struct picture_bytes *p, const char *path, struct err *e)
{
	json_t *facts = picture_facts(p, path, e), *request, *record;

	if (facts == NULL)
		return NULL;
	record = json_pack("{s:s}", "file", path);
	json_object_update(record, facts);
	request = request_from_texts(json_object_get(facts, "texts"));
	if (request != NULL)
		json_object_set_new(record, "request", request);
	json_object_set_new(record, "keys", keys_of(json_object_get(facts, "texts")));
	json_decref(facts);
	return record;
}

static int
complain(int status, const struct err *e)
{
	fprintf(stderr, "zitctl: %s\n", e->text);
	return status == -ERR_SYSTEM ? CTL_INTERNAL : CTL_USAGE;
}

/* Adds what a file says to the list. 0, or an exit code after saying why not. */
static int
look_into(const char *path, json_t *list)
{
	struct picture_bytes p = {0};
	struct err e;
	int status = picture_load(path, &p, &e);
	json_t *facts;

	if (status != 0)
		return complain(status, &e);
	facts = facts_of(&p, path, &e);
	picture_unload(&p);
	if (facts == NULL)
		return complain(-(int)e.code, &e);
	json_array_append_new(list, facts);
	return CTL_OK;
}

int
command_info(struct ctl *ctl)
{
	json_t *answer = json_pack("{s:[]}", "pictures"), *list = json_object_get(answer, "pictures"), *facts;
	int status = CTL_OK;
	size_t k;

	for (int i = 0; i < ctl->arg_count; i++) {
		int code = look_into(ctl->args[i], list);
		status = status == CTL_OK ? code : status;
	}
	if (ctl->format == FORMAT_TABLE || ctl->format == FORMAT_WIDE)
		json_array_foreach(list, k, facts)
		{
			if (k > 0)
				putchar('\n');
			output_record(ctl, facts, &info_table);
		}
	else
		output_list(ctl, answer, "pictures", &info_table);
	json_decref(answer);
	return status;
}

/* ---- replay */

/* The reproducibility key: where all of these are the same, so are the pixels. */
static const char *const reproducibility[] = {
    "model_hash", "device", "precision", "build", "shift", "prompt", "seed", "width", "height", "steps"};

/* The parameters of submit that make the same picture; options of the command line win. NULL: it does not
 * say. */
static json_t *
params_of(const struct ctl *ctl, const json_t *request)
{
	static const char *const members[] = {
	    "prompt", "negative_prompt", "width", "height", "steps", "seed"};
	json_t *params = json_object();

	for (size_t i = 0; i < COUNT(members); i++) {
		json_t *value = json_object_get(request, members[i]);
		if (value != NULL && !(json_is_string(value) && *json_string_value(value) == '\0'))
			json_object_set(params, members[i], value);
	}
	if (json_object_get(params, "prompt") == NULL || json_object_get(params, "seed") == NULL) {
		json_decref(params);
		return NULL;
	}
	json_object_set_new(params, "truncate", json_true()); /* it fitted then, so this changes nothing */
	json_object_set_new(params, "wait", json_true());
	json_object_update(params, ctl->params);
	return params;
}

/* [{key, then, now}] of the reproducibility key; one that only one of them tells is null in the other. */
static json_t *
differences(const json_t *then, const json_t *now)
{
	json_t *list = json_array();

	for (size_t i = 0; i < COUNT(reproducibility); i++) {
		const char *key = reproducibility[i];
		json_t *a = json_object_get(then, key), *b = json_object_get(now, key);
		if (json_equal(a, b) || (a == NULL && b == NULL))
			continue;
		json_array_append_new(list,
		    json_pack("{s:s, s:o, s:o}", "key", key, "then", a != NULL ? json_incref(a) : json_null(),
			"now", b != NULL ? json_incref(b) : json_null()));
	}
	return list;
}

static const struct output_table difference_table = {"key", NULL,
    (const struct output_column[]){{"DIFFERS", "key", 0}, {"THEN", "then", 0}, {"NOW", "now", 0}, {0}}};

static void
print_verdict(const struct ctl *ctl, const json_t *verdict)
{
	bool same = json_is_true(json_object_get(verdict, "same"));
	bool unlike = json_array_size(json_object_get(verdict, "differs")) > 0;

	if (picture_goes_out(ctl->save) || output_for_programs(ctl, verdict, "job") || (ctl->quiet && same))
		return;
	printf("%s: %s (job %s)\n", output_text(verdict, "file"),
	    same ? "the same picture, bit for bit" : "another picture", output_text(verdict, "job"));
	if (unlike)
		output_list(ctl, verdict, "differs", &difference_table);
	else if (!same)
		printf("nothing that is recorded differs: the file was changed since, or the device does not "
		       "compute the same twice\n");
}

/* Compares with the picture that came, and is kept at `path` (NULL: is not), and says so. 0 or an exit code.
 */
static int
judge(const struct ctl *ctl, const struct picture_bytes *then, const struct picture_bytes *now,
    const json_t *facts, const json_t *record, const char *path)
{
	struct err e;
	int same = picture_compare(then, now, &e);
	json_t *again = same >= 0 ? facts_of(now, "the new picture", &e) : NULL, *verdict;

	if (again == NULL)
		return complain(-(int)e.code, &e);
	verdict = json_pack("{s:s, s:s, s:b, s:o}", "file", output_text(facts, "file"), "job",
	    output_text(record, "job"), "same", same, "differs",
	    differences(json_object_get(facts, "request"), json_object_get(again, "request")));
	if (path != NULL)
		json_object_set_new(verdict, "path", json_string(path));
	print_verdict(ctl, verdict);
	json_decref(verdict);
	json_decref(again);
	return same ? CTL_OK : CTL_FAILED;
}

/* The picture that came with the answer: kept if wanted, and compared. */
static int
compare(const struct ctl *ctl, struct client *client, const struct picture_bytes *then, const json_t *facts,
    const json_t *record)
{
	int fd = client_take_fd(client, 0), status = -ERR_PROTOCOL;
	struct picture_bytes now = {0};
	char place[PATH_MAX];
	const char *path = ctl->save != NULL ? place : NULL;
	struct err e = {.code = ERR_PROTOCOL,
	    .text = "the picture did not come with the answer, or its path is too long"};

	if (fd >= 0 && (path == NULL || (picture_place(ctl->save, output_text(record, "job"), 0, 1, place,
					     sizeof(place)) &&
					    (status = picture_save(fd, path, &e)) == 0)))
		status = picture_load_fd(fd, "the new picture", &now, &e);
	status = status == 0 ? judge(ctl, then, &now, facts, record, path) : call_failed(CLIENT_ERROR, &e);
	picture_unload(&now);
	if (fd >= 0)
		close(fd);
	return status;
}

/* Draws it again; `params` is stolen. */
static int
draw_again(const struct ctl *ctl, json_t *params, const struct picture_bytes *then, const json_t *facts)
{
	int status = CTL_INTERNAL;
	struct client *client;
	json_t *record = draw_call(ctl, &client, "submit", params, DRAW_OWN | DRAW_PICTURES, &status);

	if (record != NULL && (status = call_outcome(record)) == CTL_OK)
		status = compare(ctl, client, then, facts, record);
	json_decref(record);
	client_close(&client);
	return status;
}

int
command_replay(struct ctl *ctl)
{
	struct picture_bytes then = {0};
	struct err e;
	int status = picture_load(ctl->args[0], &then, &e);
	json_t *facts, *params;

	if (status != 0)
		return complain(status, &e);
	facts = facts_of(&then, ctl->args[0], &e);
	params = params_of(ctl, json_object_get(facts, "request"));
	if (facts == NULL || picture_compare(&then, &then, &e) < 0) /* there is something to compare with */
		status = complain(-(int)e.code, &e);
	else if (params == NULL) {
		fprintf(stderr,
		    "zitctl: %s does not say how it was made: a prompt and a seed are needed in a text 'zit' "
		    "or "
		    "'parameters', and its texts are %s; 'zitctl info -o json %s' shows them\n",
		    ctl->args[0], output_text(facts, "keys"), ctl->args[0]);
		status = CTL_USAGE;
	} else
		status = draw_again(ctl, json_incref(params), &then, facts);
	json_decref(params);
	json_decref(facts);
	picture_unload(&then);
	return status;
}
