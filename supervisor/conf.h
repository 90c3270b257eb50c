/*
 * The configuration: files to a checked struct, expanded from conf.def. Holds no pointers, so it is copied
 * freely.
 */
#ifndef SUPERVISOR_CONF_H
#define SUPERVISOR_CONF_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/err.h"
#include "supervisor/gate.h"

enum { CONF_TEXT = 256, CONF_MAX_RUNNERS = 64, CONF_MAX_CLIENTS = 64, CONF_NAME = 32 };

typedef char conf_TEXT[CONF_TEXT];
typedef char conf_PATH[CONF_TEXT];
typedef int64_t conf_INTEGER;
typedef double conf_SECONDS;
typedef int conf_SIGNAL;
typedef char conf_WORD[16];
typedef struct gate_window conf_WINDOW;

#define MEMBER(name, type, fallback, min, max, words, when, help) conf_##type name;
#define NOTHING(name, type, fallback, min, max, words, when, help)

struct conf_zitd {
#define ZITD MEMBER
#define QUEUE NOTHING
#define RESULTS NOTHING
#define RUNNER NOTHING
#define CLIENT NOTHING
#include "supervisor/conf.def"
#undef ZITD
#undef QUEUE
#undef RESULTS
#undef RUNNER
#undef CLIENT
};

struct conf_queue {
#define ZITD NOTHING
#define QUEUE MEMBER
#define RESULTS NOTHING
#define RUNNER NOTHING
#define CLIENT NOTHING
#include "supervisor/conf.def"
#undef ZITD
#undef QUEUE
#undef RESULTS
#undef RUNNER
#undef CLIENT
};

struct conf_results {
#define ZITD NOTHING
#define QUEUE NOTHING
#define RESULTS MEMBER
#define RUNNER NOTHING
#define CLIENT NOTHING
#include "supervisor/conf.def"
#undef ZITD
#undef QUEUE
#undef RESULTS
#undef RUNNER
#undef CLIENT
};

struct conf_runner {
	char section_name[CONF_NAME]; /* NAME of [runner:NAME] */
#define ZITD NOTHING
#define QUEUE NOTHING
#define RESULTS NOTHING
#define RUNNER MEMBER
#define CLIENT NOTHING
#include "supervisor/conf.def"
#undef ZITD
#undef QUEUE
#undef RESULTS
#undef RUNNER
#undef CLIENT
};

struct conf_client {
	char section_name[CONF_NAME]; /* NAME of [client:NAME]: uid:N, group:NAME, or what programs call it */
#define ZITD NOTHING
#define QUEUE NOTHING
#define RESULTS NOTHING
#define RUNNER NOTHING
#define CLIENT MEMBER
#include "supervisor/conf.def"
#undef ZITD
#undef QUEUE
#undef RESULTS
#undef RUNNER
#undef CLIENT
};

#undef MEMBER
#undef NOTHING

struct conf {
	struct conf_zitd zitd;
	struct conf_queue queue;
	struct conf_results results;
	struct conf_runner runners[CONF_MAX_RUNNERS];
	int runner_count;
	struct conf_client any_client; /* [clients] */
	struct conf_client clients[CONF_MAX_CLIENTS];
	int client_count;
};

/* Reads `path`, then the files of conf.d beside it that end in .conf. 0, or -ERR_BAD_CONFIG naming file, line
 * and key; *c is untouched then. */
int conf_read(struct conf *c, const char *path, struct err *e);

/* The section of that name, or NULL. */
const struct conf_client *conf_find_client(const struct conf *c, const char *name);

/* Calls `change` for every key whose value differs ("queue.max_size", "runner:0.model"). `when` of its row
 * tells what takes it over. */
enum conf_when { CONF_AT_ONCE, CONF_RESPAWN, CONF_RESTART };
void conf_compare(const struct conf *before, const struct conf *after,
    void (*change)(void *arg, const char *key, enum conf_when when), void *arg);

#endif
