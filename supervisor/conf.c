/*
 * The configuration: files to a checked struct, expanded from conf.def. inih reads the lines; every value is
 * checked against its row here.
 */
#include "supervisor/conf.h"

#include <dirent.h>
#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/nearest.h"

enum conf_type { TEXT, WORD, PATH, INTEGER, SECONDS, SIGNAL, WINDOW };
enum section { SECTION_ZITD, SECTION_QUEUE, SECTION_RESULTS, SECTION_RUNNER, SECTION_CLIENT, SECTION_COUNT };

/* As it is alone, and before the colon of one that has a name. */
static const struct {
	const char *alone, *named;
} section_names[SECTION_COUNT] = {
    {"zitd", NULL}, {"queue", NULL}, {"results", NULL}, {"runner", "runner"}, {"clients", "client"}};

struct row {
	enum section section;
	const char *name;
	enum conf_type type;
	const char *fallback;
	double min, max;
	const char *words;
	enum conf_when when;
	size_t offset; /* in the section's struct */
	size_t size;
};

#define AT_ONCE CONF_AT_ONCE
#define RESPAWN CONF_RESPAWN
#define RESTART CONF_RESTART
#define ROW(section, struct_name, name, type, fallback, min, max, words, when) \
	{section, #name, type, fallback, min, max, words, when, offsetof(struct struct_name, name), \
	    sizeof(conf_##type)},
static const struct row rows[] = {
#define ZITD(name, type, fallback, min, max, words, when, help) \
	ROW(SECTION_ZITD, conf_zitd, name, type, fallback, min, max, words, when)
#define QUEUE(name, type, fallback, min, max, words, when, help) \
	ROW(SECTION_QUEUE, conf_queue, name, type, fallback, min, max, words, when)
#define RESULTS(name, type, fallback, min, max, words, when, help) \
	ROW(SECTION_RESULTS, conf_results, name, type, fallback, min, max, words, when)
#define RUNNER(name, type, fallback, min, max, words, when, help) \
	ROW(SECTION_RUNNER, conf_runner, name, type, fallback, min, max, words, when)
#define CLIENT(name, type, fallback, min, max, words, when, help) \
	ROW(SECTION_CLIENT, conf_client, name, type, fallback, min, max, words, when)
#include "supervisor/conf.def"
};
#undef ROW
#undef AT_ONCE
#undef RESPAWN
#undef RESTART

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

/* One reading of all files. */
struct reading {
	struct conf *conf;
	struct conf_runner shared;		   /* [runner] */
	bool given[CONF_MAX_RUNNERS][ROWS];	   /* by [runner:NAME] itself */
	bool client_given[CONF_MAX_CLIENTS][ROWS]; /* by [client:NAME] itself */
	char file[PATH_MAX], dir[PATH_MAX];
	int line;
	FILE *stream;
	struct err *e;
	int status;
};

static int
complain(struct reading *r, const char *format, const char *a, const char *b)
{
	char text[160];

	snprintf(text, sizeof(text), format, a, b);
	r->status = err_set(r->e, ERR_BAD_CONFIG, "%s:%d: %s", r->file, r->line, text);
	return 0; /* inih's "stop" */
}

/* ---- values */

static const struct {
	const char *name;
	int number;
} signals[] = {{"INT", SIGINT}, {"TERM", SIGTERM}, {"QUIT", SIGQUIT}, {"HUP", SIGHUP}, {"USR1", SIGUSR1},
    {"USR2", SIGUSR2}};

static bool
set_signal(int *out, const char *text)
{
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		if (strcmp(signals[i].name, text) == 0) {
			*out = signals[i].number;
			return true;
		}
	}
	return false;
}

static bool
is_word(const char *words, const char *text)
{
	size_t length = strlen(text);

	for (; words != NULL && *words != '\0'; words += strcspn(words, "|"), words += *words == '|') {
		if (strcspn(words, "|") == length && strncmp(words, text, length) == 0)
			return true;
	}
	return words == NULL;
}

static bool
set_number(const struct row *row, void *member, const char *text)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end != '\0' || !(value >= row->min && value <= row->max))
		return false;
	if (row->type == SECONDS)
		*(double *)member = value;
	else
		*(int64_t *)member = (int64_t)value;
	return row->type == SECONDS || (double)(int64_t)value == value;
}

/* Relative paths mean the configuration file's own directory. */
static bool
set_path(struct reading *r, char *member, const char *text)
{
	int n = *text == '\0' || *text == '/' ? snprintf(member, CONF_TEXT, "%s", text)
					      : snprintf(member, CONF_TEXT, "%s/%s", r->dir, text);

	return n >= 0 && n < CONF_TEXT;
}

static bool
set_value(struct reading *r, const struct row *row, void *member, const char *text)
{
	switch (row->type) {
	case TEXT:
	case WORD:
		return is_word(row->words, text) && snprintf(member, row->size, "%s", text) < (int)row->size;
	case WINDOW:
		return gate_parse_window(text, member);
	case PATH:
		return set_path(r, member, text);
	case SIGNAL:
		return set_signal(member, text);
	default:
		return set_number(row, member, text);
	}
}

/* What the row takes, for people. */
static void
describe(const struct row *row, char *out, size_t size)
{
	if (row->type == INTEGER || row->type == SECONDS)
		snprintf(out, size, "%s from %g to %g", row->type == INTEGER ? "an integer" : "seconds",
		    row->min, row->max);
	else if (row->type == SIGNAL)
		snprintf(out, size, "INT, TERM, QUIT, HUP, USR1 or USR2");
	else if (row->type == WINDOW)
		snprintf(out, size, "two times of the day such as 22:00-06:00");
	else if (row->words != NULL)
		snprintf(out, size, "one of %s", row->words);
	else
		snprintf(out, size, "a text of less than %d bytes", CONF_TEXT);
}

/* ---- sections */

/* Where a section's values go: `index` of those with a name, or -1. */
static void *
section_struct(struct reading *r, enum section section, int index)
{
	struct conf *c = r->conf;
	void *const alone[SECTION_COUNT] = {&c->zitd, &c->queue, &c->results, &r->shared, &c->any_client};

	if (index < 0)
		return alone[section];
	return section == SECTION_RUNNER ? (void *)&c->runners[index] : (void *)&c->clients[index];
}

static void
set_defaults(struct reading *r)
{
	for (int i = 0; i < ROWS; i++)
		set_value(r, &rows[i], (char *)section_struct(r, rows[i].section, -1) + rows[i].offset,
		    rows[i].fallback);
}

/* The runner of that name, made when it is new; -1 when there are too many. */
static int
find_runner(struct reading *r, const char *name)
{
	struct conf *c = r->conf;

	for (int i = 0; i < c->runner_count; i++) {
		if (strcmp(c->runners[i].section_name, name) == 0)
			return i;
	}
	if (c->runner_count == CONF_MAX_RUNNERS)
		return -1;
	snprintf(c->runners[c->runner_count].section_name, CONF_NAME, "%s", name);
	return c->runner_count++;
}

/* Likewise of a client. */
static int
find_client(struct reading *r, const char *name)
{
	struct conf *c = r->conf;

	for (int i = 0; i < c->client_count; i++) {
		if (strcmp(c->clients[i].section_name, name) == 0)
			return i;
	}
	if (c->client_count == CONF_MAX_CLIENTS)
		return -1;
	snprintf(c->clients[c->client_count].section_name, CONF_NAME, "%s", name);
	return c->client_count++;
}

static bool
is_called(const char *name, const char *text, size_t length)
{
	return name != NULL && strlen(name) == length && strncmp(name, text, length) == 0;
}

/* Which section "[runner:NAME]" or "[client:NAME]" is; *index that of its name, or -1. */
static bool
find_section(struct reading *r, const char *text, enum section *section, int *index)
{
	const char *colon = strchr(text, ':'), *name = colon != NULL ? colon + 1 : NULL;
	size_t length = colon != NULL ? (size_t)(colon - text) : strlen(text);

	*index = -1;
	for (int i = 0; i < SECTION_COUNT; i++) {
		if (!is_called(name != NULL ? section_names[i].named : section_names[i].alone, text, length))
			continue;
		*section = (enum section)i;
		if (name == NULL)
			return true;
		if (name[0] == '\0' || strlen(name) >= CONF_NAME)
			return false;
		*index = i == SECTION_RUNNER ? find_runner(r, name) : find_client(r, name);
		return *index >= 0;
	}
	return false;
}

static int
unknown_section(struct reading *r, const char *section)
{
	struct nearest near = {.word = section};

	for (int i = 0; i < SECTION_COUNT; i++)
		nearest_consider(&near, section_names[i].alone);
	if (near.best != NULL)
		return complain(r, "there is no section [%.40s]; did you mean [%s]?", section, near.best);
	return complain(r, "there is no section [%.40s]%s", section, "");
}

static int
unknown_key(struct reading *r, enum section section, const char *name)
{
	struct nearest near = {.word = name};

	for (int i = 0; i < ROWS; i++) {
		if (rows[i].section == section)
			nearest_consider(&near, rows[i].name);
	}
	if (near.best != NULL)
		return complain(r, "there is no key %.40s; did you mean %s?", name, near.best);
	return complain(r, "there is no key %.40s in [%s]", name, section_names[section].alone);
}

/* inih calls this for every "key = value", right after it has read the line. */
static int
on_line(void *arg, const char *section_text, const char *name, const char *value)
{
	struct reading *r = arg;
	enum section section;
	int index;
	char wanted[120];

	if (r->status != 0)
		return 0;
	if (!find_section(r, section_text, &section, &index))
		return 0; /* note_section has complained */
	for (int i = 0; i < ROWS; i++) {
		if (rows[i].section != section || strcmp(rows[i].name, name) != 0)
			continue;
		if (index >= 0)
			(section == SECTION_RUNNER ? r->given : r->client_given)[index][i] = true;
		if (set_value(r, &rows[i], (char *)section_struct(r, section, index) + rows[i].offset, value))
			return 1;
		describe(&rows[i], wanted, sizeof(wanted));
		return complain(r, "%s must be %s", name, wanted);
	}
	return unknown_key(r, section, name);
}

/* ---- files */

/* A section that has no keys is not told to inih's handler, but a [runner:NAME] without any is a runner. */
static void
note_section(struct reading *r, const char *text)
{
	char name[80];
	enum section section;
	int index;

	if (sscanf(text, " [%79[^]\n]]", name) == 1 && !find_section(r, name, &section, &index))
		unknown_section(r, name);
}

/* fgets that counts: Debian's inih does not tell its handler the line. */
static char *
next_line(char *text, int size, void *stream)
{
	struct reading *r = stream;
	char *line = fgets(text, size, r->stream);

	r->line++;
	if (line != NULL && r->status == 0)
		note_section(r, line);
	return line;
}

static int
read_file(struct reading *r, const char *path)
{
	const char *slash;
	int status;

	snprintf(r->file, sizeof(r->file), "%s", path);
	snprintf(r->dir, sizeof(r->dir), "%s", path);
	slash = strrchr(r->dir, '/');
	if (slash != NULL)
		r->dir[slash == r->dir ? 1 : slash - r->dir] = '\0';
	else
		strcpy(r->dir, ".");
	r->line = 0;
	r->stream = fopen(path, "re");
	if (r->stream == NULL)
		return r->status = err_set(r->e, ERR_BAD_CONFIG, "%s: %s", path, strerror(errno));
	status = ini_parse_stream(next_line, r, on_line, r);
	fclose(r->stream);
	if (r->status != 0)
		return r->status;
	if (status > 0)
		return r->status = err_set(
			   r->e, ERR_BAD_CONFIG, "%s:%d: neither [section] nor key = value", path, status);
	return 0;
}

static int
is_conf_file(const struct dirent *entry)
{
	size_t length = strlen(entry->d_name);

	return length > 5 && strcmp(entry->d_name + length - 5, ".conf") == 0;
}

/* conf.d beside the main file, in the order of names. */
static int
read_directory(struct reading *r)
{
	char dir[PATH_MAX], path[PATH_MAX];
	struct dirent **entries;
	int count;

	snprintf(dir, sizeof(dir), "%.4000s/conf.d", r->dir);
	count = scandir(dir, &entries, is_conf_file, alphasort);
	for (int i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "%.2000s/%.2000s", dir, entries[i]->d_name);
		if (r->status == 0)
			read_file(r, path);
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
	return r->status;
}

/* Every runner has what [runner] says, but for what it says itself; without any there is one, named 0. */
static int
complete_runners(struct reading *r, const char *path)
{
	struct conf *c = r->conf;

	if (c->runner_count == 0)
		find_runner(r, "0");
	for (int i = 0; i < c->runner_count; i++) {
		for (int k = 0; k < ROWS; k++) {
			if (rows[k].section == SECTION_RUNNER && !r->given[i][k])
				memcpy((char *)&c->runners[i] + rows[k].offset,
				    (char *)&r->shared + rows[k].offset, rows[k].size);
		}
		if (c->runners[i].model[0] == '\0')
			return err_set(r->e, ERR_BAD_CONFIG,
			    "%s: runner %s has no model; set model = DIR in [runner]", path,
			    c->runners[i].section_name);
	}
	return 0;
}

/* Every client has what [clients] says, but for what it says itself. */
static void
complete_clients(struct reading *r)
{
	for (int i = 0; i < r->conf->client_count; i++) {
		for (int k = 0; k < ROWS; k++) {
			if (rows[k].section == SECTION_CLIENT && !r->client_given[i][k])
				memcpy((char *)&r->conf->clients[i] + rows[k].offset,
				    (char *)&r->conf->any_client + rows[k].offset, rows[k].size);
		}
	}
}

int
conf_read(struct conf *out, const char *path, struct err *e)
{
	struct reading *r = calloc(1, sizeof(*r));
	struct conf *c = calloc(1, sizeof(*c));
	int status = -ERR_SYSTEM;

	if (r == NULL || c == NULL)
		err_set(e, ERR_SYSTEM, "out of memory");
	else {
		r->conf = c;
		r->e = e;
		set_defaults(r);
		status = read_file(r, path);
		if (status == 0)
			status = read_directory(r);
		if (status == 0)
			status = complete_runners(r, path);
		complete_clients(r);
		if (status == 0)
			*out = *c;
	}
	free(c);
	free(r);
	return status;
}

/* ---- differences */

static const struct conf_runner *
runner_by_name(const struct conf *c, const char *name)
{
	for (int i = 0; i < c->runner_count; i++) {
		if (strcmp(c->runners[i].section_name, name) == 0)
			return &c->runners[i];
	}
	return NULL;
}

const struct conf_client *
conf_find_client(const struct conf *c, const char *name)
{
	for (int i = 0; i < c->client_count; i++) {
		if (strcmp(c->clients[i].section_name, name) == 0)
			return &c->clients[i];
	}
	return NULL;
}

/* What that client has, by its own section or by [clients]. */
static const struct conf_client *
client_or_any(const struct conf *c, const char *name)
{
	const struct conf_client *own = conf_find_client(c, name);

	return own != NULL ? own : &c->any_client;
}

struct comparison {
	void (*change)(void *arg, const char *key, enum conf_when when);
	void *arg;
};

static void
compare_section(const struct comparison *c, enum section section, const char *prefix, const void *before,
    const void *after)
{
	char key[96];

	for (int i = 0; i < ROWS; i++) {
		const struct row *row = &rows[i];
		if (row->section != section || memcmp((const char *)before + row->offset,
						   (const char *)after + row->offset, row->size) == 0)
			continue;
		snprintf(key, sizeof(key), "%s.%s", prefix, row->name);
		c->change(c->arg, key, row->when);
	}
}

void
conf_compare(const struct conf *before, const struct conf *after,
    void (*change)(void *arg, const char *key, enum conf_when when), void *arg)
{
	struct comparison c = {change, arg};
	char prefix[64];

	compare_section(&c, SECTION_ZITD, "zitd", &before->zitd, &after->zitd);
	compare_section(&c, SECTION_QUEUE, "queue", &before->queue, &after->queue);
	compare_section(&c, SECTION_RESULTS, "results", &before->results, &after->results);
	compare_section(&c, SECTION_CLIENT, "clients", &before->any_client, &after->any_client);
	for (int i = 0; i < after->client_count + before->client_count; i++) {
		const char *name = i < after->client_count
				       ? after->clients[i].section_name
				       : before->clients[i - after->client_count].section_name;
		if (i >= after->client_count && conf_find_client(after, name) != NULL)
			continue; /* had its turn */
		snprintf(prefix, sizeof(prefix), "client:%s", name);
		compare_section(
		    &c, SECTION_CLIENT, prefix, client_or_any(before, name), client_or_any(after, name));
	}
	for (int i = 0; i < after->runner_count; i++) {
		const struct conf_runner *old = runner_by_name(before, after->runners[i].section_name);
		snprintf(prefix, sizeof(prefix), "runner:%s", after->runners[i].section_name);
		if (old != NULL)
			compare_section(&c, SECTION_RUNNER, prefix, old, &after->runners[i]);
		else
			change(arg, prefix, CONF_RESTART);
	}
	for (int i = 0; i < before->runner_count; i++) {
		snprintf(prefix, sizeof(prefix), "runner:%s", before->runners[i].section_name);
		if (runner_by_name(after, before->runners[i].section_name) == NULL)
			change(arg, prefix, CONF_RESTART);
	}
}
