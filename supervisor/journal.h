/*
 * zitd's log: events with fields to the journal, or as JSON or text to stderr.
 *
 * Each kind of event is a row of journal.def, with its message, its level and its fields. Who logs one gives
 * what the row's fields need, and the jobs and runners it is about; the message is made from the fields, so
 * that whatever is said is there to be selected by, too:
 *
 *   journal(EVENT_JOB_EVICTED, .job = job, .other_job = newcomer->id);
 *
 * Nothing here waits: a line that the log's reader has no room for is lost, counted, and told when there is
 * room again. Nothing is allocated. For the loop's thread only.
 */
#ifndef SUPERVISOR_JOURNAL_H
#define SUPERVISOR_JOURNAL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "ipc/log.h"

struct err;
struct job;
struct runner;

enum event {
#define LOG_EVENT(name, id, level, bound, fields, ...) EVENT_##name,
#include "supervisor/journal.def"
	EVENT_COUNT
};

typedef const char *journal_TEXT; /* NULL or "": left out */
typedef int64_t journal_NUMBER;	  /* below 0: left out */
typedef int64_t journal_USEC;	  /* likewise */

/* What an event is about. The first three fill all the fields that are theirs; fields that the event's row
 * does not name are not used. */
struct journal_facts {
	const struct job *job;
	const struct runner *runner;
	const struct err *error;
#define LOG_FIELD(member, name, kind, help) journal_##kind member;
#include "supervisor/journal.def"
};

struct journal_place {
	const char *file;
	int line;
	const char *function;
};

#define JOURNAL_HERE (&(const struct journal_place){__FILE__, __LINE__, __func__})

#define journal(event, ...) journal_event((event), &(const struct journal_facts){__VA_ARGS__}, JOURNAL_HERE)

/* What a job and a runner know of themselves; set once, before the first event that is about one. */
void journal_set_objects(void (*job)(const struct job *, struct journal_facts *),
    void (*runner)(const struct runner *, struct journal_facts *));

void journal_event(enum event event, const struct journal_facts *facts, const struct journal_place *place);

/* A line that is no event, of a program of that name: what runners say. `runner` may be NULL. */
void journal_line(enum log_level level, const char *program, const struct runner *runner, const char *text);

/* In which form: "auto" (the journal if stderr is connected to it, else text), "journal", "json" or "text".
 * From the first call on the lines of log.h take the same way. May be called again. */
void journal_set_form(const char *form);
bool journal_is_form(const char *name);
/* What of prompts is logged: "none", "hash" or "full". */
void journal_set_prompts(const char *what);

/* The table as JSON, a new reference: name, message_id, level, message, subject, explanation, fields. */
json_t *journal_table(void);

#endif
