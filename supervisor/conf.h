/*
 * The configuration: files to a checked struct, expanded from conf.def. Holds no pointers, so it is copied
 * freely.
 */
#ifndef SUPERVISOR_CONF_H
#define SUPERVISOR_CONF_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "ipc/err.h"
#include "supervisor/scheduling/gate.h"

enum {
	CONF_TEXT = 256, /* bytes of a value with its NUL */
	CONF_MAX_RUNNERS = 64,
	CONF_MAX_CLIENTS = 64,
	CONF_MAX_FILES = 64,
	CONF_NAME = 32,
	CONF_KEY = 96,
	CONF_ORIGIN = CONF_TEXT + 16,
};

/* Where a value comes from. */
struct conf_origin {
	enum conf_source {
		CONF_DEFAULT,
		CONF_FILE,
		CONF_COMMAND_LINE,
		CONF_EARLIER /* what the files say now needs a restart */
	} source;
	int file, line; /* of conf.files */
};

typedef char conf_TEXT[CONF_TEXT];
typedef char conf_ENVIRONMENT[CONF_TEXT];
typedef char conf_PATH[CONF_TEXT];
typedef char conf_DEVICE[64];
typedef int64_t conf_INTEGER;
typedef double conf_SECONDS;
typedef int conf_SIGNAL;
typedef char conf_WORD[16];
typedef struct gate_window conf_WINDOW;

#define MEMBER(name, type, fallback, min, max, words, when, help) \
	conf_##type name; \
	struct conf_origin name##_origin;

struct conf_zitd {
#define ZITD MEMBER
#include "supervisor/conf.def"
};

struct conf_queue {
#define QUEUE MEMBER
#include "supervisor/conf.def"
};

struct conf_results {
#define RESULTS MEMBER
#include "supervisor/conf.def"
};

struct conf_runner {
	char section_name[CONF_NAME]; /* NAME of [runner:NAME]; or, with `like`, of one more like that */
	char like[CONF_NAME];	      /* one of a section's further runners: that section's NAME; else "" */
	bool each_device; /* no [runner:NAME] was written: as many runners as there are devices for them */
#define RUNNER MEMBER
#include "supervisor/conf.def"
};

struct conf_client {
	char section_name[CONF_NAME]; /* NAME of [client:NAME]: uid:N, group:NAME, or what programs call it */
#define CLIENT MEMBER
#include "supervisor/conf.def"
};

#undef MEMBER

struct conf {
	struct conf_zitd zitd;
	struct conf_queue queue;
	struct conf_results results;
	struct conf_runner runners[CONF_MAX_RUNNERS];
	int runner_count;
	struct conf_client any_client; /* [clients] */
	struct conf_client clients[CONF_MAX_CLIENTS];
	int client_count;
	char files[CONF_MAX_FILES][CONF_TEXT]; /* that were read, in their order */
	int file_count;
};

/* Reads `path`, then the files of conf.d beside it that end in .conf. 0, or -ERR_BAD_CONFIG naming file, line
 * and key; *c is untouched then. */
int conf_read(struct conf *c, const char *path, struct err *e);
/* Sets an option of [zitd] that the command line gave; NULL: it did not. 0 or -ERR_BAD_CONFIG. */
int conf_override(struct conf *c, const char *name, const char *text, struct err *e);

/* The section of that name, or NULL. */
const struct conf_client *conf_find_client(const struct conf *c, const char *name);
struct conf_runner *conf_find_runner(struct conf *c, const char *name);
/* NAME of the section that it is from. */
const char *conf_runner_section(const struct conf_runner *c);

/* ---- one value */

/* What takes over another value: a reload, a fresh process of the runner, or a restart of zitd. */
enum conf_when { CONF_AT_ONCE, CONF_RESPAWN, CONF_RESTART };
const char *conf_when_name(enum conf_when when); /* "at_once", "respawn", "restart" */

struct conf_value {
	char key[CONF_KEY]; /* "queue.max_size", "runner:0.model" */
	const char *option; /* "max_size" */
	enum conf_when when;
	const struct conf_row *row;
	const void *member;
	const struct conf_origin *origin;
};

/* Calls `look` for every value there is, section by section. */
void conf_each(const struct conf *c, void (*look)(void *arg, const struct conf_value *value), void *arg);

/* Numbers as numbers, the rest as a file would have it; a new reference. `hide`: the values of environment
 * variables, which may be secrets, are left out. */
json_t *conf_json(const struct conf_row *row, const void *member, bool hide);
/* "/etc/zit/zitd.conf:12", "default", "command line", or that it is older than what is read now. */
void conf_origin_text(const struct conf *c, const struct conf_origin *origin, char out[CONF_ORIGIN]);

/* ---- two configurations */

/* A value that differs; or, without a row, a runner's section that is new (`before` is NULL) or gone (`after`
 * is). */
struct conf_change {
	char key[CONF_KEY]; /* or "runner:NAME" alone */
	const char *runner; /* whose it is; NULL: not a runner's */
	enum conf_when when;
	const struct conf_row *row;
	const void *before, *after;
};

/* Calls `change` for every key whose value differs. */
void conf_compare(const struct conf *before, const struct conf *after,
    void (*change)(void *arg, const struct conf_change *change), void *arg);
/* A reload: takes over from `fresh` all but what needs a restart, the set of runners included. */
void conf_take_over(struct conf *running, const struct conf *fresh);

/* ---- what a runner's process was started with: its options that take a fresh one */

/* Puts what it was started with in the place of what is configured now. */
void conf_runner_restore_started(struct conf_runner *to, const struct conf_runner *started);
/* Over an upgrade: as texts by their options, a new reference; and back, where what is not in it stays. */
json_t *conf_runner_dump(const struct conf_runner *c);
void conf_runner_undump(struct conf_runner *c, const json_t *dump);

/* ---- the table itself */

/* [{sections, key, type, default, min, max, words, when, help}, ...]; a new reference. */
json_t *conf_options(void);

#endif
