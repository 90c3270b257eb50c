/*
 * The configuration: files to a checked struct. inih reads the lines; every value is checked against its row.
 */
#include <dirent.h>
#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/nearest.h"
#include "supervisor/conf_inside.h"

/* One reading of all files. */
struct reading {
	struct conf *conf;
	struct conf_runner shared; /* [runner] */
	char dir[CONF_TEXT];	   /* of the file that is read now */
	int line;
	FILE *stream;
	struct err *e;
	int status;
};

static const char *
this_file(const struct reading *r)
{
	return r->conf->files[r->conf->file_count - 1];
}

static int
complain(struct reading *r, const char *format, const char *a, const char *b)
{
	char text[160];

	snprintf(text, sizeof(text), format, a, b);
	r->status = err_set(r->e, ERR_BAD_CONFIG, "%s:%d: %s", this_file(r), r->line, text);
	return 0; /* inih's "stop" */
}

/* ---- sections */

/* Where a section's values go: `index` of those with a name, or -1. */
static void *
section_struct(struct reading *r, enum conf_section section, int index)
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
	const struct conf_row *row;

	for (int i = 0; (row = conf_row_at(i)) != NULL; i++)
		conf_parse(row, conf_member(row, section_struct(r, row->section, -1)), row->fallback, NULL);
}

struct conf_runner *
conf_find_runner(struct conf *c, const char *name)
{
	for (int i = 0; i < c->runner_count; i++) {
		if (strcmp(c->runners[i].section_name, name) == 0)
			return &c->runners[i];
	}
	return NULL;
}

const char *
conf_runner_section(const struct conf_runner *c)
{
	return c->like[0] != '\0' ? c->like : c->section_name;
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

/* The runner of that name, made when it is new; -1 when there are too many. */
static int
find_runner(struct reading *r, const char *name)
{
	struct conf *c = r->conf;
	struct conf_runner *found = conf_find_runner(c, name);

	if (found != NULL)
		return (int)(found - c->runners);
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
	const struct conf_client *found = conf_find_client(c, name);

	if (found != NULL)
		return (int)(found - c->clients);
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
find_section(struct reading *r, const char *text, enum conf_section *section, int *index)
{
	const char *colon = strchr(text, ':'), *name = colon != NULL ? colon + 1 : NULL;
	size_t length = colon != NULL ? (size_t)(colon - text) : strlen(text);

	*index = -1;
	for (int i = 0; i < SECTION_COUNT; i++) {
		const enum conf_section each = (enum conf_section)i;
		const char *called = name != NULL ? conf_section_named(each) : conf_section_alone(each);
		if (!is_called(called, text, length))
			continue;
		*section = each;
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
		nearest_consider(&near, conf_section_alone((enum conf_section)i));
	if (near.best != NULL)
		return complain(r, "there is no section [%.40s]; did you mean [%s]?", section, near.best);
	return complain(r, "there is no section [%.40s]%s", section, "");
}

static int
unknown_key(struct reading *r, enum conf_section section, const char *name)
{
	struct nearest near = {.word = name};
	const struct conf_row *row;

	for (int i = 0; (row = conf_row_at(i)) != NULL; i++) {
		if (row->section == section)
			nearest_consider(&near, row->name);
	}
	if (near.best != NULL)
		return complain(r, "there is no key %.40s; did you mean %s?", name, near.best);
	return complain(r, "there is no key %.40s in [%s]", name, conf_section_alone(section));
}

/* inih calls this for every "key = value", right after it has read the line. */
static int
on_line(void *arg, const char *section_text, const char *name, const char *value)
{
	struct reading *r = arg;
	enum conf_section section;
	const struct conf_row *row;
	int index;
	void *values;
	char wanted[120];

	if (r->status != 0)
		return 0;
	if (!find_section(r, section_text, &section, &index))
		return 0; /* note_section has complained */
	row = conf_row_find(section, name);
	if (row == NULL)
		return unknown_key(r, section, name);
	values = section_struct(r, section, index);
	*conf_origin(row, values) = (struct conf_origin){CONF_FILE, r->conf->file_count - 1, r->line};
	if (conf_parse(row, conf_member(row, values), value, r->dir))
		return 1;
	conf_describe(row, wanted, sizeof(wanted));
	return complain(r, "%s must be %s", name, wanted);
}

/* ---- files */

/* A section that has no keys is not told to inih's handler, but a [runner:NAME] without any is a runner. */
static void
note_section(struct reading *r, const char *text)
{
	char name[80];
	enum conf_section section;
	int index;

	if (sscanf(text, " [%79[^]\n]]", name) == 1 && !find_section(r, name, &section, &index))
		unknown_section(r, name);
}

/* inih would take an indented line for more of the value before it. */
static void
unindent(char *line)
{
	memmove(line, line + strspn(line, " \t"), strlen(line + strspn(line, " \t")) + 1);
}

/* What did not fit is passed over; only a comment may do without it. */
static void
drop_rest(struct reading *r, const char *line, int size)
{
	char text[12];
	int c;

	if (strchr(line, '\n') != NULL || feof(r->stream))
		return;
	while ((c = getc(r->stream)) != '\n' && c != EOF)
		;
	snprintf(text, sizeof(text), "%d", size - 2);
	line += strspn(line, " \t");
	if (line[0] != '#' && line[0] != ';')
		complain(r, "the line is longer than %s bytes%s", text, "");
}

/* fgets that counts: Debian's inih does not tell its handler the line. */
static char *
next_line(char *text, int size, void *stream)
{
	struct reading *r = stream;
	char *line = fgets(text, size, r->stream);

	r->line++;
	if (line == NULL || r->status != 0)
		return line;
	drop_rest(r, line, size);
	unindent(line);
	note_section(r, line);
	return line;
}

/* Its name, noted for origins and complaints; and its directory, for paths. */
static int
begin_file(struct reading *r, const char *path)
{
	struct conf *c = r->conf;
	const char *slash = strrchr(path, '/');
	size_t dir = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);

	if (c->file_count == CONF_MAX_FILES)
		return err_set(
		    r->e, ERR_BAD_CONFIG, "%s: more than %d files are not read", path, CONF_MAX_FILES);
	if (strlen(path) >= CONF_TEXT)
		return err_set(r->e, ERR_BAD_CONFIG,
		    "%s: the path is longer than %d bytes; use a shorter one", path, CONF_TEXT - 1);
	snprintf(c->files[c->file_count++], CONF_TEXT, "%s", path);
	snprintf(r->dir, sizeof(r->dir), "%.*s", dir > 0 ? (int)dir : 1, dir > 0 ? path : ".");
	r->line = 0;
	return 0;
}

static int
read_file(struct reading *r, const char *path)
{
	int status;

	r->status = begin_file(r, path);
	if (r->status != 0)
		return r->status;
	r->stream = fopen(path, "re");
	if (r->stream == NULL)
		return r->status = err_set(r->e, ERR_BAD_CONFIG, "%s: %s", path, strerror(errno));
	status = ini_parse_stream(next_line, r, on_line, r);
	fclose(r->stream);
	if (r->status == 0 && status > 0)
		r->status =
		    err_set(r->e, ERR_BAD_CONFIG, "%s:%d: neither [section] nor key = value", path, status);
	return r->status;
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
	if (count < 0 && errno != ENOENT)
		r->status = err_set(r->e, ERR_BAD_CONFIG, "%s: %s", dir, strerror(errno));
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

/* A section has what the one without a name says, but for what it says itself. */
static void
inherit(enum conf_section section, void *values, const void *shared)
{
	const struct conf_row *row;

	for (int k = 0; (row = conf_row_at(k)) != NULL; k++) {
		if (row->section == section && conf_origin(row, values)->source == CONF_DEFAULT)
			conf_copy(row, values, shared);
	}
}

/* Without any runner there is one, named 0, and more if there are devices for them. */
static int
complete_runners(struct reading *r)
{
	struct conf *c = r->conf;

	if (c->runner_count == 0)
		c->runners[find_runner(r, "0")].each_device = true;
	for (int i = 0; i < c->runner_count; i++) {
		inherit(SECTION_RUNNER, &c->runners[i], &r->shared);
		if (c->runners[i].model[0] == '\0')
			return err_set(r->e, ERR_BAD_CONFIG,
			    "%s: runner %s has no model; set model = DIR in [runner]", c->files[0],
			    c->runners[i].section_name);
	}
	return 0;
}

static void
complete_clients(struct reading *r)
{
	for (int i = 0; i < r->conf->client_count; i++)
		inherit(SECTION_CLIENT, &r->conf->clients[i], &r->conf->any_client);
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
			status = complete_runners(r);
		complete_clients(r);
		if (status == 0)
			*out = *c;
	}
	free(c);
	free(r);
	return status;
}

int
conf_override(struct conf *c, const char *name, const char *text, struct err *e)
{
	const struct conf_row *row = conf_row_find(SECTION_ZITD, name);
	char wanted[120];

	if (text == NULL)
		return 0;
	if (conf_parse(row, conf_member(row, &c->zitd), text, NULL)) {
		*conf_origin(row, &c->zitd) = (struct conf_origin){.source = CONF_COMMAND_LINE};
		return 0;
	}
	conf_describe(row, wanted, sizeof(wanted));
	return err_set(e, ERR_BAD_CONFIG, "command line: %s must be %s", name, wanted);
}
